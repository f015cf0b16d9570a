"""Recordings are decoded frame by frame as nle.dataset does it, and damaged ones are always found out."""

import bz2
import os
import shutil
import tracemalloc
from pathlib import Path

import nle.dataset
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nle.env.tasks import NetHackChallenge
from resources import RECORDINGS, need_recordings

from playscale.corpus.prepare import prepare
from playscale.games.game import Recording
from playscale.games.nethack.bzip2 import join_streams, last_blocks
from playscale.games.nethack.rules import KEYS, action_to_key
from playscale.games.nethack.ttyrec import cut_after, decode, find_recordings, read_recorded, read_xlogfile

FOLDER = RECORDINGS / "20261123-020039_aa00072"  # its game 3 has 394 transitions, its game 1 has 11,839
COLUMNS = {"tty_chars": "tty_chars", "tty_colors": "tty_colors", "tty_cursor": "tty_cursor", "score": "scores"}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two games of AutoAscend with their xlogfile, one of them of several bzip2 blocks."""
    need_recordings()
    return copy_real(tmp_path_factory.mktemp("real"))


def copy_real(root):
    folder = root / FOLDER.name
    folder.mkdir(parents=True)
    for name in ("nle.6113.1.ttyrec3.bz2", "nle.6113.3.ttyrec3.bz2", "nle.6113.xlogfile"):
        shutil.copyfile(FOLDER / name, folder / name)
    return root


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A game that NLE itself records here and now, and the observations and keys it was played with."""
    root = tmp_path_factory.mktemp("fresh")
    env = NetHackChallenge(savedir=str(root / "sub"), save_ttyrec_every=1, max_episode_steps=1000)
    keys = [int(key) for key in env.actions]
    observation, _ = env.reset()
    rng = np.random.default_rng(0)
    walk = [keys.index(ord(key)) for key in "hjklyubns,"] + [keys.index(27)]
    seen = []
    for action in rng.choice(walk, 1000).tolist():
        seen.append(
            ({name: observation[name].copy() for name in ("tty_chars", "tty_colors", "tty_cursor")}, keys[action])
        )
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    assert terminated or truncated  # only then is there a line in the xlogfile
    env.close()
    return root, seen


def whole(recording, block=640):
    blocks = list(decode(recording, block))
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def by_nle(root, folder):
    """Every game of a directory as TtyrecDataset gives it: file name to arrays, padding cut off."""
    database = str(folder / "nle.db")
    nle.dataset.db.create(database)
    nle.dataset.add_nledata_directory(str(root), "it", database)
    dataset = nle.dataset.TtyrecDataset("it", batch_size=1, seq_length=500, shuffle=False, dbfilename=database)
    games = {}
    for gameid in dataset._gameids:
        parts = dataset.get_ttyrec(gameid)
        arrays = {name: np.concatenate([part[name][0] for part in parts]) for name in parts[0]}
        length = int((arrays["gameids"] == gameid).sum())
        games[Path(dataset.get_paths(gameid)[0]).name] = {name: array[:length] for name, array in arrays.items()}
    return games


@pytest.mark.parametrize("where", ["real", "fresh"])
def test_equals_nle_dataset_frame_by_frame(where, request, tmp_path):
    root = request.getfixturevalue(where)
    root = root[0] if where == "fresh" else root
    expected = by_nle(root, tmp_path)
    assert len(expected) == (1 if where == "fresh" else 2)
    recordings, _ = find_recordings(root)
    assert {recording.paths[0].name for recording in recordings} == set(expected)
    for recording in recordings:
        theirs, ours = expected[recording.paths[0].name], whole(recording)
        for name, their_name in COLUMNS.items():
            assert ours[name].dtype == theirs[their_name].dtype
            assert np.array_equal(ours[name], theirs[their_name]), name
        assert np.array_equal(action_to_key[ours["action"]], theirs["keypresses"])


def test_equals_nle_dataset_through_a_corpus(real, tmp_path):
    corpus = prepare(real, tmp_path / "c", workers=2)
    for index, (game, theirs) in enumerate(zip(corpus.games, by_nle(real, tmp_path).values(), strict=True)):
        assert game.key.endswith(("nle.6113.1", "nle.6113.3"))
        read = corpus.read_game(index)
        for name, their_name in COLUMNS.items():
            assert np.array_equal(read[name], theirs[their_name]), name
        assert np.array_equal(action_to_key[read["action"]], theirs["keypresses"])
        assert (corpus.game, corpus.num_actions) == ("nethack", len(KEYS))


def test_frames_pair_with_the_keys_pressed_in_answer(fresh):
    """The screens the player saw and the keys it pressed are in the recording, one transition each, in order."""
    root, seen = fresh
    (recording,), rejected = find_recordings(root)
    assert not rejected
    game = whole(recording)
    first = next(t for t in range(20) if np.array_equal(game["tty_chars"][t], seen[0][0]["tty_chars"]))
    assert (action_to_key[game["action"][:first]] == ord(" ")).all()  # nle's reset clicks through the welcome
    for t, (observation, key) in enumerate(seen, first):
        assert action_to_key[game["action"][t]] == key
        for name, array in observation.items():
            assert np.array_equal(game[name][t], array), (name, t)


def test_block_length_changes_nothing(real):
    recording = find_recordings(real)[0][1]
    one, other = whole(recording, 640), whole(recording, 7)
    assert len(one["action"]) == 394
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_metadata_comes_from_the_xlogfile(real):
    recording = find_recordings(real)[0][1]
    assert recording.key == f"{FOLDER.name}/nle.6113.3"
    assert {
        "role",
        "race",
        "gender",
        "alignment",
        "score",
        "turns",
        "deepest_level",
        "death",
    } <= recording.metadata.keys()
    assert recording.metadata["role"] == "Arc"
    assert all(isinstance(recording.metadata[name], int) for name in ("score", "turns", "deepest_level"))


def test_recordings_without_a_finished_game_are_rejected(real, tmp_path):
    shutil.copytree(real, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / FOLDER.name
    game = folder / "nle.6113.3.ttyrec3.bz2"
    shutil.copyfile(game, folder / "nle.6113.9.ttyrec3.bz2")
    shutil.copyfile(game, folder / "nle.6113.8.ttyrec2.bz2")
    shutil.copyfile(game, tmp_path / "nle.1.0.ttyrec3.bz2")
    line = (folder / "nle.6113.xlogfile").read_text().splitlines()[3]
    assert line.endswith(game.name)
    (tmp_path / "nle.1.xlogfile").write_text(line.replace(game.name, "nle.1.0.ttyrec3.bz2") + "\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copyfile(game, tmp_path / "deep" / "er" / "nle.2.0.ttyrec3.bz2")
    (tmp_path / "deep" / "er" / "nle.2.xlogfile").write_text(
        line.replace(game.name, "nle.2.0.ttyrec3.bz2").replace("points=", "points=x")
    )
    found, rejected = find_recordings(tmp_path)
    assert [recording.key for recording in found] == [f"{FOLDER.name}/nle.6113.{n}" for n in (1, 3)] + ["nle.1.0"]
    reasons = {left.path: left.reason for left in rejected}
    assert "no line for it" in reasons[f"{FOLDER.name}/nle.6113.9.ttyrec3.bz2"]
    assert "not a .ttyrec3.bz2" in reasons[f"{FOLDER.name}/nle.6113.8.ttyrec2.bz2"]
    assert "xlogfile is damaged" in reasons["deep/er/nle.2.0.ttyrec3.bz2"]
    assert len(rejected) == 3


def test_unreadable_xlogfiles_are_rejected_and_the_others_are_read(fresh, tmp_path):
    folder = tmp_path / "sub"
    shutil.copytree(fresh[0] / "sub", folder)
    (folder / "old-xlogfiles").mkdir()
    (folder / "lost.xlogfile").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.xlogfile")
    found, rejected = find_recordings(tmp_path)
    assert len(found) == 1
    assert {left.path: left.reason for left in rejected} == {
        "sub/lost.xlogfile": "the xlogfile cannot be read: No such file or directory",
        "sub/old-xlogfiles": "the xlogfile cannot be read: Is a directory",
        "sub/pipe.xlogfile": "not an xlogfile: a pipe",
    }


def test_an_xlogfile_line_ends_at_a_newline_only(tmp_path):
    path = tmp_path / "xlogfile"
    path.write_bytes(b"name=Agent\x85\x0c\x1c\tdeath=a\r\nname=B\tpoints=3\n")
    assert read_xlogfile(path) == [{"name": "Agent\x85\x0c\x1c", "death": "a"}, {"name": "B", "points": "3"}]


def test_a_recording_of_several_bzip2_streams_is_decoded(fresh, tmp_path):
    (recording,), _ = find_recordings(fresh[0])
    raw = bz2.decompress(recording.paths[0].read_bytes())
    size = len(raw) // 3  # how long the game is, is chance
    parts = [raw[i : i + size] for i in range(0, len(raw), size)]
    streams = [bz2.compress(part) for part in [*parts[:1], b"", *parts[1:]]]
    several = Recording("it", (tmp_path / "nle.1.0.ttyrec3.bz2",), {})
    several.paths[0].write_bytes(b"".join(streams))
    expected = whole(recording)
    assert len(streams) > 3
    assert all(np.array_equal(array, expected[name]) for name, array in whole(several).items())
    for bad in ([*streams[:-1], streams[-1][:-1]], [*streams, b"garbage"], [streams[0], b"garbage", *streams[1:]]):
        several.paths[0].write_bytes(b"".join(bad))
        with pytest.raises(ValueError, match="^damaged"):
            whole(several)


def test_a_recording_that_was_not_written_to_its_end_is_one_line(fresh, tmp_path):
    (recording,), _ = find_recordings(fresh[0])
    path, stored = tmp_path / "nle.0.0.ttyrec3.bz2", recording.paths[0].read_bytes()
    for written in (b"", stored[: len(stored) // 2], bytes(100) + stored):
        path.write_bytes(written)
        with pytest.raises(OSError, match="ttyrec3.bz2: the recording was not written to its end: is the disk full"):
            cut_after(path, 3)
        assert path.read_bytes() == written
    path.write_bytes(stored)
    assert read_recorded(path) == bz2.decompress(stored)


def test_joining_a_bomb_takes_no_memory():
    stored = bz2.compress(bytes(2**26)) * 2
    tracemalloc.start()
    joined = join_streams(stored)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(joined) < 1000
    assert peak < 2**24


def test_no_recordings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such directory"):
        find_recordings(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no recordings"):
        find_recordings(tmp_path)


def harmed(data, kind):
    raw = bz2.decompress(data) if kind.startswith("raw") else b""
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x10
    return {
        "empty": b"",
        "half": data[: len(data) // 2],
        "last byte missing": data[:-1],
        "garbage after": data + b"garbage",
        "another game after": data + data[::-1],
        "not bzip2": b"hello world" * 50,
        "flipped": bytes(flipped),
        "only text": bz2.compress(b"hello world" * 50),
        "nothing in it": bz2.compress(b""),
        "raw cut in a record": bz2.compress(raw[:-3]),
        "raw half": bz2.compress(raw[: len(raw) // 2 + 1]),
    }[kind]


KINDS = [
    "empty",
    "half",
    "last byte missing",
    "garbage after",
    "another game after",
    "not bzip2",
    "flipped",
    "only text",
]
KINDS += ["nothing in it", "raw cut in a record", "raw half"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found(real, tmp_path, kind):
    data = find_recordings(real)[0][1].paths[0].read_bytes()
    path = tmp_path / "nle.1.0.ttyrec3.bz2"
    path.write_bytes(harmed(data, kind))
    with pytest.raises(ValueError, match=r"^(empty|not|truncated|damaged)") as caught:
        whole(Recording("it", (path,), {}))
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_found_or_harmless(real, tmp_path_factory, data):
    recording = find_recordings(real)[0][1]
    stored = bytearray(recording.paths[0].read_bytes())
    bit = data.draw(st.integers(0, len(stored) * 8 - 1))
    stored[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("flip") / "nle.1.0.ttyrec3.bz2"
    path.write_bytes(stored)
    try:
        got = whole(Recording("it", (path,), {}))
    except ValueError:
        return
    assert all(np.array_equal(got[name], array) for name, array in whole(recording).items())


@pytest.mark.slow
def test_damage_in_the_middle_of_a_long_game_costs_that_game_only(real, tmp_path):
    """The converter stops silently, shouts or crashes there; the corpus has the other game and says why not this."""
    for place in (0.1, 0.5):
        source = copy_real(tmp_path / f"s{place}")
        path = source / FOLDER.name / "nle.6113.1.ttyrec3.bz2"
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 0x10
        path.write_bytes(data)
        corpus = prepare(source, tmp_path / f"c{place}", workers=1)
        assert [game.key for game in corpus.games] == [f"{FOLDER.name}/nle.6113.3"]
        ((left),) = corpus.rejected
        assert left.path == f"{FOLDER.name}/nle.6113.1.ttyrec3.bz2"
        assert "damaged" in left.reason or "crashed" in left.reason


def test_an_unknown_key_is_refused(real, tmp_path):
    recording = find_recordings(real)[0][1]
    raw = bytearray(bz2.decompress(recording.paths[0].read_bytes()))
    raw[raw.index(b"\x01\x00\x00\x00\x01") + 5] = 7
    path = tmp_path / "nle.1.0.ttyrec3.bz2"
    path.write_bytes(bz2.compress(bytes(raw)))
    with pytest.raises(ValueError, match="key 7 at transition 0 is none of the game's 121 actions"):
        whole(Recording("it", (path,), {}))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 350_000), st.integers(1, 4), st.sampled_from([1, 2, 9]))
def test_last_blocks_are_the_end_of_the_file(seed, length, count, level):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, rng.integers(2, 256), length, np.uint8).tobytes()
    stored = bz2.compress(data, level)
    if not data:
        with pytest.raises(ValueError, match="no bzip2 block"):
            last_blocks(stored, count)
        return
    end = last_blocks(stored, count)
    assert data.endswith(end)
    assert len(end) >= min(length, (count - 1) * level * 90_000 + 1)
    if length <= count * level * 90_000:
        assert end == data
