"""Recordings become a corpus: whole or not at all, the same for any number of workers, the damaged ones listed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from counting_game import record, register, transitions

from playscale.corpus.corpus import Corpus
from playscale.corpus.manifest import GameRecord, _parse
from playscale.corpus.prepare import _split, prepare
from playscale.games.game import Rejected

pytestmark = pytest.mark.usefixtures("forked_workers")

TESTS = Path(__file__).parents[2] / "support"
LENGTHS = [700, 3, 1281, 640, 90, 1, 55, 20]


@pytest.fixture(autouse=True)
def _counting(monkeypatch):
    register(monkeypatch)


def make(source, out, **settings):
    return prepare(source, out, **({"game": "counting", "workers": 2} | settings))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_corpus_is_the_same_for_any_number_of_workers(tmp_path):
    source = record(tmp_path / "source", LENGTHS, {4: "damaged"})
    calls = []
    one = make(source, tmp_path / "a" / "one", workers=1, progress=lambda text, fraction: calls.append(fraction))
    three = make(source, tmp_path / "three", workers=3)
    assert one.digest == three.digest
    assert content(tmp_path / "a" / "one") == content(tmp_path / "three")
    assert calls == sorted(calls)
    assert calls[-1] == 1
    assert one.rejected == (Rejected("0004.count", "planted damage"),)
    assert [game.key for game in one.games] == [f"{n:04d}" for n in range(8) if n != 4]
    for index, game in enumerate(one.games):
        number = int(game.key)
        read = one.read_game(index)
        assert all(np.array_equal(read[k], v) for k, v in transitions(number, LENGTHS[number]).items())
        assert game.metadata == {"number": number}
        assert game.score == (LENGTHS[number] - 1) * 3 - number
    counts = json.loads((tmp_path / "three" / "corpus.json").read_text())["counts"]
    assert sum(count["transitions"] for count in counts.values()) == sum(LENGTHS) - 90
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_digest_follows_neither_places_nor_times(tmp_path):
    source = record(tmp_path / "source", LENGTHS)
    one = make(source, tmp_path / "c")
    copy = Path(shutil.copytree(source, tmp_path / "elsewhere" / "games", copy_function=shutil.copyfile))
    for number, path in enumerate(sorted(copy.iterdir())):
        os.utime(path, (number, number))
    assert make(copy, tmp_path / "elsewhere" / "c", workers=1).digest == one.digest
    shutil.move(tmp_path / "c", tmp_path / "moved")
    assert Corpus.open(tmp_path / "moved").digest == one.digest


def test_split_depends_on_what_was_played_alone(tmp_path):
    lengths = [2] * 40
    corpus = make(record(tmp_path / "s", lengths), tmp_path / "c", dev_fraction=0.25, workers=1)
    split = {game.metadata["number"]: game.split for game in corpus.games}
    assert 4 <= list(split.values()).count("dev") <= 16
    fewer = record(tmp_path / "f", lengths)
    for path in sorted(fewer.iterdir())[::2]:
        path.unlink()
    for path in sorted(fewer.iterdir()):
        path.rename(path.with_stem(f"{path.stem}_renamed"))
    again = make(fewer, tmp_path / "c2", dev_fraction=0.25, workers=1)
    assert {game.metadata["number"]: game.split for game in again.games}.items() <= split.items()


def test_prepare_keeps_each_game_once(tmp_path):
    source = record(tmp_path / "s", [30] * 20)
    for path in sorted(source.iterdir()):
        shutil.copyfile(path, path.with_stem(f"{path.stem}_copy"))
    corpus = make(source, tmp_path / "c", workers=1)
    assert [game.key for game in corpus.games] == [f"{n:04d}" for n in range(20)]
    assert {left.path: left.reason for left in corpus.rejected} == {
        f"{n:04d}_copy.count": f"the same game as {n:04d}" for n in range(20)
    }
    assert [game.split for game in corpus.games].count("dev") > 0


def test_games_of_equal_play_share_a_split():
    games = [GameRecord(str(n), "train", 0, 0, 1, 1, 0.0, "", {}) for n in range(4)]

    def split(*identities):
        return [game.split for game in _split(games[: len(identities)], identities, 0.1)]

    assert split(0.5, 0.6, 0.5, 0.7) == ["dev", "train", "dev", "train"]
    assert split(0.05, 0.01, 0.05) == ["train", "dev", "train"]
    assert split(0.5, 0.5) == ["train", "train"]


def test_unreadable_paths_cost_themselves_only(tmp_path):
    source = record(tmp_path / "s", [5, 6])
    (source / "0002.count").symlink_to("nowhere")
    (source / "0003.count").mkdir()
    os.mkfifo(source / "0004.count")
    (source / "0005.count").symlink_to("0005.count")
    Path(os.fsdecode(os.fsencode(source) + b"/0006_\xff.count")).write_text("5")
    corpus = make(source, tmp_path / "c", workers=1)
    assert [game.key for game in corpus.games] == ["0000", "0001"]
    assert {left.path: left.reason for left in corpus.rejected} == {
        "0002.count": "cannot be read: No such file or directory",
        "0003.count": "not a file",
        "0004.count": "not a file",
        "0005.count": "cannot be read: Too many levels of symbolic links",
        "0006_\\xff.count": "its path is not UTF-8 text",
    }


def as_of_0_1(folder):
    """Make of a corpus what version 0.1 would have written: split by key, no hash of the recordings' bytes."""
    path = folder / "corpus.json"
    value = json.loads(path.read_text())
    del value["checksum"]
    value["fingerprint"] = value.pop("stats")
    rows = value["games"]["rows"]
    fractions = [int.from_bytes(hashlib.blake2b(row[0].encode(), digest_size=8).digest()) / 2**64 for row in rows]
    for row, fraction in zip(rows, fractions, strict=True):
        row[1] = "dev" if fraction == min(fractions) or (fraction < 0.1 and fraction != max(fractions)) else "train"
    value["digest"] = _parse(value).digest
    path.write_text(json.dumps(value))


def test_a_copied_corpus_of_version_0_1_is_recognised(tmp_path):
    source, out = record(tmp_path / "s", [700, 3, 55, 20, 90], {4: "damaged"}), tmp_path / "c"
    make(source, out, workers=1)
    as_of_0_1(out)
    before = content(out)
    assert make(source, out, workers=1).games  # by times of change
    for number, path in enumerate(sorted(source.iterdir())):
        os.utime(path, (number, number))
    assert make(source, out, workers=1).games  # by content
    assert content(out) == before
    with pytest.raises(ValueError, match="a corpus of other recordings or settings"):
        make(source, out, dev_fraction=0.5, workers=1)
    (source / "0001.count").write_text("4")
    with pytest.raises(ValueError, match="a corpus of other recordings or settings"):
        make(source, out, workers=1)


def test_prepare_writes_into_a_link_and_goes_on_in_a_directory_without_manifest(tmp_path):
    source = record(tmp_path / "s", [700, 3, 55, 20, 90])
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    corpus = make(source, tmp_path / "link", workers=1)
    assert content(tmp_path / "there").keys() == {"corpus.json", "shard-00000"}
    (tmp_path / "there" / "corpus.json").unlink()  # as when it is killed while it moves the files
    (tmp_path / "there" / ".there.1.partial").mkdir()
    assert make(source, tmp_path / "link", workers=1).digest == corpus.digest
    assert content(tmp_path / "there").keys() == {"corpus.json", "shard-00000"}


def test_a_copied_corpus_and_its_copied_recordings_are_recognised(tmp_path):
    source = record(tmp_path / "a" / "s", [700, 3, 55, 20, 90])
    corpus = make(source, tmp_path / "a" / "c", workers=1)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    for path in (tmp_path / "b" / "s").iterdir():
        os.utime(path, (1, 1))
    assert make(tmp_path / "b" / "s", tmp_path / "b" / "c", workers=1).digest == corpus.digest
    (tmp_path / "b" / "s" / "0001.count").write_text("4")
    with pytest.raises(ValueError, match="a corpus of other recordings or settings"):
        make(tmp_path / "b" / "s", tmp_path / "b" / "c", workers=1)


@pytest.mark.parametrize(("games", "fraction", "dev"), [(1, 0.9, 0), (2, 0.01, 1), (2, 0.99, 1), (3, 0.99, 2)])
def test_few_games_still_make_both_splits(tmp_path, games, fraction, dev):
    corpus = make(record(tmp_path / "s", [5] * games), tmp_path / "c", dev_fraction=fraction, workers=1)
    assert [game.split for game in corpus.games].count("dev") == dev


def test_a_crashing_decoder_costs_its_game_only(tmp_path):
    source = record(tmp_path / "s", [700] * 5, {1: "abort", 3: "damaged"})
    corpus = make(source, tmp_path / "c")
    assert [game.key for game in corpus.games] == ["0000", "0002", "0004"]
    reasons = {rejected.path: rejected.reason for rejected in corpus.rejected}
    assert reasons == {"0001.count": "the decoder crashed on it (SIGABRT)", "0003.count": "planted damage"}


@pytest.mark.parametrize(("fault", "says"), [("disk", "No space left"), ("killed", "out of memory")])
def test_prepare_raises_faults_that_are_not_of_a_recording(tmp_path, fault, says):
    source = record(tmp_path / "s", [700] * 3, {1: fault})
    with pytest.raises(OSError, match=says):
        make(source, tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_rerun_returns_what_is_there(tmp_path):
    source = record(tmp_path / "s", LENGTHS)
    first = make(source, tmp_path / "c")
    before = (tmp_path / "c" / "corpus.json").stat()
    assert make(source, tmp_path / "c").digest == first.digest
    assert (tmp_path / "c" / "corpus.json").stat() == before
    with pytest.raises(ValueError, match="a corpus of other recordings or settings"):
        make(source, tmp_path / "c", dev_fraction=0.5)
    (source / "0001.count").write_text("4")
    with pytest.raises(ValueError, match="a corpus of other recordings or settings"):
        make(source, tmp_path / "c")


def test_prepare_refuses_impossible_arguments(tmp_path):
    source = record(tmp_path / "s", [5, 5])
    for wrong in ({"dev_fraction": 0}, {"dev_fraction": 1}, {"workers": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make(source, tmp_path / "c", **wrong)
    with pytest.raises(ValueError, match="unknown game 'countin'.*'counting'"):
        make(source, tmp_path / "c", game="countin")
    with pytest.raises(ValueError, match="no such directory"):
        make(tmp_path / "nowhere", tmp_path / "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no recordings"):
        make(tmp_path / "empty", tmp_path / "c")
    for out in (source, source / "0000.count"):
        with pytest.raises(ValueError, match="not a whole corpus"):
            make(source, out)
    with pytest.raises(ValueError, match="none of its 2 recordings.*0000.count: planted damage"):
        make(record(tmp_path / "bad", [5, 5], {0: "damaged", 1: "damaged"}), tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert make(source, tmp_path / "empty").transitions("train") == 5  # an empty directory is no obstacle


def test_kill_midway_then_rerun(tmp_path):
    """kill -9 leaves nothing at the place of the corpus and no process behind; the rerun cleans up and completes."""
    source, out = record(tmp_path / "s", [700] * 4, {3: "hang"}), tmp_path / "c"
    code = (
        "from playscale.games.game import GAMES; GAMES['counting'] = 'counting_game:Counting'\n"
        "from playscale.corpus.prepare import prepare\n"
        f"prepare({str(source)!r}, {str(out)!r}, game='counting', workers=2)"
    )
    env = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    deadline = time.time() + 60
    while not list(tmp_path.glob(".c.*.partial/shard-00000")) and time.time() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert list(tmp_path.glob(".c.*.partial"))
    while any(Path(f"/proc/{child}").exists() for child in children) and time.time() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    shutil.rmtree(source)
    corpus = make(record(source, [700] * 4), out)
    assert corpus.transitions("train") + corpus.transitions("dev") == 2800
    assert Corpus.open(out).digest == corpus.digest
    assert not list(tmp_path.glob(".c.*"))
