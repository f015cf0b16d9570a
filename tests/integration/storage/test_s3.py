"""A corpus in S3 is the corpus that it would be here: against a real server, whose connections may break."""

import itertools
import shutil
import time

import numpy as np
import pytest
import s3_server
from counting_game import plant, record, register

from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare
from playscale.storage.s3 import ATTEMPTS, S3Storage
from playscale.storage.storage import open_storage

pytestmark = pytest.mark.usefixtures("forked_workers")

LENGTHS = [700, 3, 1281, 640, 90, 1, 55, 20, 2500]


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_prepared_to_s3_is_what_is_prepared_here(s3, tmp_path, monkeypatch):
    register(monkeypatch)
    source = record(tmp_path / "source", LENGTHS, {4: "damaged"})
    here = prepare(source, tmp_path / "here", game="counting", workers=2)
    there = prepare(source, "s3://bucket/a/b", game="counting", workers=2)
    assert (there.digest, there.games, there.uri) == (here.digest, here.games, "s3://bucket/a/b")
    for path in (tmp_path / "here").iterdir():
        assert (s3 / "a" / "b" / path.name).read_bytes() == path.read_bytes()
    written = (s3 / "a" / "b" / "corpus.json").stat().st_mtime_ns
    assert prepare(source, "s3://bucket/a/b", game="counting").digest == here.digest
    assert (s3 / "a" / "b" / "corpus.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match=r"s3://bucket/a/b: a corpus of other recordings"):
        prepare(source, "s3://bucket/a/b", game="counting", dev_fraction=0.5)


def test_a_torn_upload_is_no_corpus_and_is_done_again(s3, tmp_path, monkeypatch):
    register(monkeypatch)
    source = record(tmp_path / "source", LENGTHS)

    def breaks(self, file, name):
        if name == "corpus.json":
            raise OSError("planted: the connection broke")
        put(self, file, name)

    put = S3Storage.put
    with monkeypatch.context() as patch:
        patch.setattr(S3Storage, "put", breaks)
        patch.setattr("playscale.storage.sync.PATIENCE", 0.0)
        with pytest.raises(OSError, match="planted"):
            prepare(source, "s3://bucket/torn", game="counting", workers=1)
    assert [path.name for path in (s3 / "torn").iterdir()] == ["shard-00000"]
    with pytest.raises(ValueError, match=r"s3://bucket/torn/: not a corpus"):
        Corpus.open("s3://bucket/torn")
    (s3 / "torn" / "shard-00000").write_bytes(b"half")
    corpus = prepare(source, "s3://bucket/torn", game="counting", workers=1)
    assert [len(corpus.read_game(i)["action"]) for i in range(len(LENGTHS))] == LENGTHS
    (s3 / "occupied").mkdir()
    (s3 / "occupied" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="there already and not a whole corpus"):
        prepare(source, "s3://bucket/occupied", game="counting")


@pytest.mark.parametrize(("gigabytes", "start"), [pytest.param("1", 7, marks=pytest.mark.slow), ("3e-6", 0)])
def test_streams_from_s3_are_those_from_here(s3, tmp_path, monkeypatch, gigabytes, start):
    """Whether the kept sections hold all games or fewer than there are columns."""
    monkeypatch.setenv("PLAYSCALE_CACHE_GB", gigabytes)
    here = Corpus.open(plant(tmp_path / "c", LENGTHS, {1, 8}))
    shutil.copytree(tmp_path / "c", s3 / "c", dirs_exist_ok=True)
    there = Corpus.open("s3://bucket/c")
    for split, count in (("train", 40 if start else 12), ("dev", 100)):
        streams = [c.stream(batch=3, unroll=50, split=split, start=start) for c in (there, here)]
        for one, other in itertools.islice(itertools.zip_longest(*streams), count):
            assert same(one, other)
    there.sections._pool.shutdown()  # what was fetched ahead has arrived
    sizes = [path.stat().st_size for path in (tmp_path / "kept").iterdir()]
    assert sum(sizes) <= max(float(gigabytes) * 1e9, *sizes)
    assert len(sizes) == len(LENGTHS) or gigabytes != "1"


def test_games_are_fetched_before_their_turn(s3, tmp_path):
    """After the first batch of two columns, what the queue holds next is on its way without being asked for."""
    plant(s3 / "ahead", [100] * 12)
    stream = Corpus.open("s3://bucket/ahead").stream(batch=2, unroll=10)
    next(stream)
    deadline = time.time() + 60
    while len(list((tmp_path / "kept").glob("[!.]*"))) < 12 and time.time() < deadline:
        time.sleep(0.05)
    assert len(list((tmp_path / "kept").glob("[!.]*"))) == 12


def test_damage_of_a_kept_section_is_healed_and_of_the_shard_is_named(s3, tmp_path):
    plant(s3 / "d", [1500], shard_bytes=10**9)
    corpus = Corpus.open("s3://bucket/d")
    whole = corpus.read_game(0)
    (kept,) = (tmp_path / "kept").iterdir()
    data = bytearray(kept.read_bytes())
    for harmed in (data[:-1] + bytes([data[-1] ^ 1]), bytes([data[0] ^ 1]) + data[1:], data[:100]):
        kept.write_bytes(harmed)
        assert same(corpus.read_game(0), whole)
        assert kept.read_bytes() == data
    kept.unlink()
    shard = s3 / "d" / "shard-00000"
    shard.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ValueError, match=r"s3://bucket/d/shard-00000: game 0: damaged section"):
        corpus.read_game(0)


@pytest.mark.slow
def test_answers_that_break_off_are_asked_for_again(s3, s3_root, tmp_path, monkeypatch):
    (s3 / "big").mkdir()
    (s3 / "big" / "file").write_bytes(data := np.random.default_rng(0).bytes(300_000))
    with s3_server.breaking_proxy(s3_root[1], after=100_000, times=2) as (endpoint, broken):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert open_storage("s3://bucket/big").read("file", 1000, 290_000) == data[1000:291_000]
    assert len(broken) == 2
    with s3_server.breaking_proxy(s3_root[1], after=100_000, times=ATTEMPTS) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(OSError, match="s3://bucket/big/file: "):
            open_storage("s3://bucket/big").read("file", 0, 290_000)


def test_refusals_of_s3_are_one_line(s3, tmp_path, monkeypatch):
    for uri, says in (
        ("s3://bucket/nothing", r"s3://bucket/nothing/: no such corpus"),
        ("s3://nobucket/x", r"s3://nobucket/x/: missing \(NoSuchBucket"),
    ):
        with pytest.raises(ValueError, match=says):
            Corpus.open(uri)
    with pytest.raises(ValueError, match="file: missing"):
        open_storage("s3://bucket/x").read("file", 0, 10)
    (s3 / "short").write_bytes(b"12345")
    with pytest.raises(ValueError, match=r"short: ends too early \(2 of 4 bytes at 3\)"):
        open_storage("s3://bucket").read("short", 3, 4)
    monkeypatch.setenv("PLAYSCALE_CACHE_GB", "much")
    plant(s3 / "five", [5])
    with pytest.raises(ValueError, match="PLAYSCALE_CACHE_GB: 'much' is not a number"):
        Corpus.open("s3://bucket/five")
    monkeypatch.setenv("PLAYSCALE_CACHE_GB", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "UNKNOWNUNKNOWNUNKNOW")
    with pytest.raises(ValueError, match="s3://bucket/five/: refused"):
        Corpus.open("s3://bucket/five")
    monkeypatch.setattr("playscale.storage.s3.ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.free_port()}")
    with pytest.raises(OSError, match="Could not connect"):
        Corpus.open("s3://bucket/five")


def test_the_command_line_prepares_to_s3_and_trains_from_it(s3, cli, tmp_path):
    """The URI goes through the verbs unharmed."""
    environment = {"PLAYSCALE_CACHE": str(tmp_path / "kept")}
    games = ("collect", "--games", "3", "--max-steps", "60", "--out", "games")
    assert cli(*games, cwd=tmp_path).returncode == 0
    made = cli("prepare", "games", "--out", "s3://bucket/cli", cwd=tmp_path, **environment)
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in (s3 / "cli").iterdir()) == ["corpus.json", "shard-00000"]
    arguments = ("--corpus", "s3://bucket/cli", "--size", "10k", "--budgets", "9e8", "--dev-samples", "64")
    trained = cli("train", "bc", *arguments, "--out", "out", cwd=tmp_path, **environment)
    assert trained.returncode == 0, trained.stderr
    missing = cli("train", "bc", *arguments[:1], "s3://bucket/none", *arguments[2:], "--out", "o", cwd=tmp_path)
    assert missing.returncode == 2
    assert "s3://bucket/none/: no such corpus" in missing.stderr
