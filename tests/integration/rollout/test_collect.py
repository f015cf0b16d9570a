"""Collecting: seeded, complete, resumable, and readable by nle.dataset."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from nle import dataset

from playscale.config import COLLECTING_SEED
from playscale.games.game import get_game
from playscale.rollout.collect import collect

pytestmark = pytest.mark.usefixtures("forked_workers")

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from pathlib import Path
from playscale.rollout.collect import collect
if __name__ == "__main__":
    say = lambda text, _: print(text, flush=True)
    collect("nethack", 40, Path(sys.argv[1]), workers=2, max_steps=1500, progress=say)
"""


def played(out):
    """What was played in every recording of a directory: its key, frames and actions."""
    game = get_game("nethack")
    recordings, rejected = game.find_recordings(out)
    assert not rejected
    blocks = {recording.key: list(game.decode(recording, 512)) for recording in recordings}
    return {key: (blocks[key][0]["tty_chars"], np.concatenate([b["action"] for b in blocks[key]])) for key in blocks}


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    out = tmp_path_factory.mktemp("games") / "out"
    heard = []
    summary = collect("nethack", 5, out, seed=7, workers=2, max_steps=250, progress=lambda *said: heard.append(said))
    return out, summary, heard


def test_layout_and_summary(games):
    out, summary, heard = games
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "collect.json", *(f"game-{seed:06d}" for seed in range(7, 12))
    ]  # fmt: skip
    assert [path.name for path in sorted((out / "game-000007").iterdir())] == ["nle.7.0.ttyrec3.bz2", "nle.7.xlogfile"]
    rows = json.loads((out / "collect.json").read_text())["games"]
    assert [row["seed"] for row in rows] == list(range(7, 12))
    assert summary.games == summary.played == 5
    assert summary.transitions == sum(row["steps"] for row in rows)
    assert summary.score_mean == pytest.approx(np.mean([row["score"] for row in rows]))
    assert [fraction for _, fraction in heard] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_nle_reads_it(games, tmp_path, monkeypatch):
    """Every game is found by nle's own dataset, and its keys are those that our reader finds."""
    out, summary, _ = games
    monkeypatch.chdir(tmp_path)
    dataset.db.create()
    dataset.add_nledata_directory(str(out), "ours")
    data = dataset.TtyrecDataset("ours", batch_size=1, seq_length=100, shuffle=False)
    with sqlite3.connect("ttyrecs.db") as connection:
        rows = connection.execute("SELECT gameid, path FROM ttyrecs").fetchall()
    keys = {gameid: path.removesuffix(".ttyrec3.bz2") for gameid, path in rows}
    theirs = {key: [] for key in keys.values()}
    for batch in data:
        for gameid, key in zip(batch["gameids"][0], batch["keypresses"][0], strict=True):
            if gameid:
                theirs[keys[gameid]].append(int(key))
    ours = played(out)
    assert theirs.keys() == ours.keys()
    assert len(ours) == summary.games
    from playscale.games.nethack.rules import action_to_key

    for key, (_, actions) in ours.items():
        assert theirs[key][: len(actions)] == action_to_key[actions].tolist()
        assert ord("q") | 0x80 not in theirs[key]  # nobody quits: the keys that end a cut game are not in it


def test_the_number_of_workers_changes_nothing(games, tmp_path):
    out, _, _ = games
    collect("nethack", 5, tmp_path / "alone", seed=7, workers=1, max_steps=250)
    ours, theirs = played(out), played(tmp_path / "alone")
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_array_equal(ours[key][0], theirs[key][0])
        np.testing.assert_array_equal(ours[key][1], theirs[key][1])


@pytest.mark.slow
def test_collect_resumes_after_a_kill(tmp_path):
    """kill -9 in the middle: no torn game is visible, no worker stays behind, the same call completes the rest."""
    out = tmp_path / "out"
    (tmp_path / "run.py").write_text(SCRIPT)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py"), str(out)], stdout=subprocess.PIPE, env=environment, text=True
    )
    for _ in range(3):
        process.stdout.readline()
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    workers = [int(pid) for pid in children.stdout.split()]
    assert workers
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)

    before = played(out)
    assert 3 <= len(before) < 40
    assert list(out.glob(".playing/*/*/*"))  # and what was being played lies where nobody looks
    assert not list(temporary.iterdir())
    summary = collect("nethack", 12, out, workers=2, max_steps=1500)
    assert summary.games == 12
    assert summary.played < 12
    assert not (out / ".playing").exists()
    rows = json.loads((out / "collect.json").read_text())["games"]
    assert {f"game-{row['seed']:06d}" for row in rows} == {path.name for path in out.glob("game-*")}
    assert collect("nethack", 12, out, workers=2, max_steps=1500).played == 0


def test_collect_begins_apart_from_the_seeds_of_evaluation_and_goes_on_where_it_began(tmp_path):
    def seeds(out, games, seed=None):
        collect("nethack", games, out, seed=seed, max_steps=2)
        return [row["seed"] for row in json.loads((out / "collect.json").read_text())["games"]]

    new = tmp_path / "new"
    assert seeds(new, 1) == [COLLECTING_SEED]
    assert seeds(new, 2) == [COLLECTING_SEED, COLLECTING_SEED + 1]
    recordings, _ = get_game("nethack").find_recordings(new)
    assert [recording.metadata["seed"] for recording in recordings] == [COLLECTING_SEED, COLLECTING_SEED + 1]

    old = tmp_path / "old"
    seeds(old, 1, seed=1)
    collection = json.loads((old / "collect.json").read_text())
    del collection["seed"], collection["checksum"]  # as version 0.1 left it, the game of seed 0 unfinished
    (old / "collect.json").write_text(json.dumps(collection))
    assert seeds(old, 2) == [0, 1]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": []},
        {"games": {}},
        {"games": [{"seed": "7", "score": 1.0, "steps": 3, "terminated": True}]},
        {"games": [{"seed": 7, "score": 1.0, "steps": 3}]},
        {"checksum": "0" * 32},
    ],
    ids=["seed", "games", "seed of a game", "missing key", "checksum"],
)
def test_damaged_collection_is_refused(tmp_path, changed):
    document = {"schema": 1, "game": "nethack", "expert": "3", "max_steps": 250, "seed": 7, "games": []} | changed
    (tmp_path / "collect.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"collect\.json: damaged .*remove the file"):
        collect("nethack", 1, tmp_path, seed=7, max_steps=250)


def test_collect_refuses_other_settings_in_the_same_directory(games):
    out, _, _ = games
    before = (out / "collect.json").read_bytes()
    with pytest.raises(ValueError, match="was collected with max_steps=250, not 300: choose another --out"):
        collect("nethack", 5, out, seed=7, max_steps=300)
    assert (out / "collect.json").read_bytes() == before


def test_foreign_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="no collection"):
        collect("nethack", 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("wrong", [{"games": 0}, {"workers": 0}, {"max_steps": 0}, {"seed": -1}])
def test_collect_refuses_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        collect(**({"game": "nethack", "games": 1, "out": tmp_path / "out"} | wrong))
    assert not (tmp_path / "out").exists()


def test_an_unknown_game(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'nethack'"):
        collect("nethck", 1, tmp_path / "out")


def die(*_):
    os._exit(3)


def test_a_dead_worker_is_an_error(tmp_path, monkeypatch):
    """A worker that dies does not hang the collection."""
    import playscale.rollout.collect as module

    monkeypatch.setattr(module, "_play", die)
    with pytest.raises(RuntimeError, match=r"playing nethack: worker process \d+ ended with exit code 3"):
        list(module._play_all("nethack", [3], tmp_path, tmp_path, 100, 1))
