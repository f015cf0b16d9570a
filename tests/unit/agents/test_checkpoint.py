import json
import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from playscale.agents.checkpoint import EXTRA, JSON, WEIGHTS, digest, load_checkpoint, load_policy, save_checkpoint
from playscale.agents.policy import CORES, build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game

META = {"point": {"flops": 3e11, "size": "10k"}, "note": "what it was"}


@pytest.fixture
def policy():
    torch.manual_seed(3)
    return build_policy(config_for_size(get_game("nethack"), "10k", "lstm"))


@pytest.mark.parametrize("core", CORES)
def test_checkpoint_is_loaded_as_it_was_saved(tmp_path, core):
    policy = build_policy(config_for_size(get_game("nethack"), "10k", core))
    extra = {"hidden": torch.randn(2, 3), "steps": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}
    save_checkpoint(tmp_path / "a", policy, META, extra)
    loaded, checkpoint = load_policy(tmp_path / "a", expect_game="nethack")
    assert checkpoint.config.core == core
    assert checkpoint.meta == META
    assert loaded.state_dict().keys() == policy.state_dict().keys()
    for key, value in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert checkpoint.extra.keys() == extra.keys()
    assert all(torch.equal(checkpoint.extra[key], extra[key]) for key in extra)
    assert not loaded.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_no_extra_no_file(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, {})
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [JSON, WEIGHTS]
    assert load_checkpoint(tmp_path / "a").extra == {}


def test_a_later_one_replaces_an_earlier_one_wholly(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, {"step": 1}, {"x": torch.zeros(1)})
    save_checkpoint(tmp_path / "a", policy, {"step": 2})
    checkpoint = load_checkpoint(tmp_path / "a")
    assert checkpoint.meta == {"step": 2}
    assert checkpoint.extra == {}


def test_a_failed_save_leaves_the_earlier_one(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, {"step": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(tmp_path / "a", policy, {"loss": float("nan")})
    assert load_policy(tmp_path / "a")[1].meta == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_loading_leaves_no_trace_in_the_generator(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, {})
    before = torch.get_rng_state()
    load_policy(tmp_path / "a")
    assert torch.equal(before, torch.get_rng_state())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def edit(**changes):
    def change(path: Path) -> None:
        record = json.loads(path.read_text())
        del record["checksum"]  # as version 0.1 wrote it
        path.write_text(json.dumps({**record, **changes}))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (WEIGHTS, truncate, "damaged checkpoint"),
        (WEIGHTS, flip, "damaged checkpoint"),
        (WEIGHTS, Path.unlink, "missing"),
        (WEIGHTS, lambda path: path.write_bytes(pickle.dumps({})), "damaged checkpoint"),
        (JSON, truncate, "not valid JSON"),
        (JSON, Path.unlink, "not a checkpoint"),
        (JSON, lambda path: path.write_text("[]"), "not a checkpoint"),
        (JSON, lambda path: path.write_bytes(b"\xff\xfe\x00"), "not valid JSON"),
        (JSON, lambda path: path.write_text('{"schema": 1}'), "damaged checkpoint"),
        (JSON, edit(schema=2), "schema 2"),
        (JSON, edit(policy={}), "damaged checkpoint"),
        (JSON, edit(policy=[]), "damaged checkpoint"),
        (JSON, edit(meta=3), "damaged checkpoint"),
    ],
)
def test_damage_is_one_clear_line(tmp_path, policy, name, damage, message):
    save_checkpoint(tmp_path / "a", policy, META)
    damage(tmp_path / "a" / name)
    with pytest.raises(ValueError, match=message) as caught:
        load_policy(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_damage_to_the_document_is_found(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, META)
    path = tmp_path / "a" / JSON
    whole = path.read_bytes()
    for place in range(whole.index(b'"meta"'), whole.index(b'"checksum"'), 3):
        harmed = bytearray(whole)
        harmed[place] ^= 1
        path.write_bytes(harmed)
        with pytest.raises(ValueError, match="damaged|not valid JSON|not a checkpoint"):
            load_checkpoint(tmp_path / "a")


def test_weights_of_other_shapes_are_refused(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, META)
    path = tmp_path / "a" / JSON
    config = {**policy.config.to_dict(), "width": policy.config.width + 2}
    edit(policy=config)(path)
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_policy(tmp_path / "a")
    assert "\n" not in str(caught.value)


CLAIMS = [
    {"width": 12_000_000},
    {"layers": 10**9},
    {"num_actions": 10**12},
    {"context": 10**12},
    {"width": -2},
    {"width": "20"},
    {"layers": None},
    {"core": "transformer", "heads": 7},
    {"encoder": {"text": 10**9}},
    {"encoder": {"text": -1}},
    {"encoder": {"text": "a"}},
    {"encoder": {"map_channels": 3}},
    {"encoder": 3},
]


@pytest.mark.parametrize("claim", CLAIMS, ids=json.dumps)
def test_claims_of_a_checkpoint_take_no_memory_before_they_are_compared(tmp_path, policy, claim):
    save_checkpoint(tmp_path / "a", policy, META)
    edit(policy={**policy.config.to_dict(), **claim})(tmp_path / "a" / JSON)
    with pytest.raises(ValueError, match="does not fit|damaged checkpoint") as caught:
        load_policy(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_header_of_a_gigabyte_is_refused_unread(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, META)
    path = tmp_path / "a" / WEIGHTS
    path.write_bytes((1 << 30).to_bytes(8, "little") + b"{}")
    edit(sha256={WEIGHTS: digest(path)})(tmp_path / "a" / JSON)
    with pytest.raises(ValueError, match=rf"{WEIGHTS}: a header of 1,073,741,824 bytes"):
        load_policy(tmp_path / "a")


def test_modes_follow_the_umask(tmp_path, policy):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "a", policy, META, {"x": torch.zeros(1)})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "a").iterdir()} == {0o640}


def test_damaged_extra_is_told_when_it_is_read(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, META, {"x": torch.zeros(99)})
    truncate(tmp_path / "a" / EXTRA)
    _, checkpoint = load_policy(tmp_path / "a")
    with pytest.raises(ValueError, match="damaged checkpoint"):
        _ = checkpoint.extra


def test_checkpoint_of_another_game_is_refused(tmp_path, policy):
    save_checkpoint(tmp_path / "a", policy, META)
    with pytest.raises(ValueError, match="checkpoint of nethack, but recall"):
        load_checkpoint(tmp_path / "a", expect_game="recall")


def test_nothing_there_is_no_checkpoint(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="not a checkpoint"):
            load_checkpoint(path)
