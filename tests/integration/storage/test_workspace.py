"""Work on a directory in S3: a real server, with faults between; what is torn is never taken for whole."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from faulty_proxy import FAULTS, faulty

from playscale.corpus.corpus import Corpus
from playscale.storage import sync as module
from playscale.storage.files import atomic_files
from playscale.storage.s3 import PART, Checksums, S3Storage
from playscale.storage.sync import S3Sync, local_copy, patient_reads, workspace


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "INTERVAL", 0.1)
    monkeypatch.setattr(module, "PATIENCE", 5.0)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv(module.SCRATCH, str(tmp_path / "scratch"))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def store(tmp_path, files):
    for name, data in files.items():
        put(tmp_path / "given", name, data)
        S3Storage("s3://bucket").upload(tmp_path / "given" / name, name)


def test_workspace_fetches_existing_files_and_stores_changed_ones(s3, tmp_path):
    there = {"plan.json": b"{}", "train/a/points.csv": b"a", "train/ab/points.csv": b"ab", "other": b"other"}
    store(tmp_path, {f"study/{name}": data for name, data in there.items()})
    with workspace("s3://bucket/study", "plan.json", "train/a/*") as folder:
        assert contents(folder) == {"plan.json": b"{}", "train/a/points.csv": b"a"}
        put(folder, "train/a/new/checkpoint.json", b"[]")
        put(folder, "train/a/.aside", b"no")
        put(folder, "train/.b.partial/file", b"no")
        (folder / "plan.json").unlink()
        deadline = time.time() + 60
        while not (s3 / "study/train/a/new/checkpoint.json").exists() or (s3 / "study/plan.json").exists():
            assert time.time() < deadline, "stored while the work goes on"
            time.sleep(0.05)
        put(folder, "train/a/points.csv", b"at the end")
    assert not folder.exists()
    assert contents(s3 / "study") == {
        "train/a/points.csv": b"at the end",
        "train/a/new/checkpoint.json": b"[]",
        "train/ab/points.csv": b"ab",
        "other": b"other",
    }


def test_workspace_lists_each_part_of_s3_once(s3, tmp_path, monkeypatch):
    """A listing covers all patterns that begin alike."""
    store(tmp_path, {"listed/figures/a.png": b"a", "listed/figures/b.txt": b"b", "listed/fit.json": b"{}"})
    listed, walk = [], S3Storage.walk

    def counted(self, prefix=""):
        listed.append(prefix)
        return walk(self, prefix)

    monkeypatch.setattr(S3Storage, "walk", counted)
    with workspace("s3://bucket/listed", "figures/a*.png", "figures/*_a.png", "fit.json", store=False) as folder:
        assert contents(folder) == {"figures/a.png": b"a", "fit.json": b"{}"}
    assert sorted(listed) == ["figures/", "fit.json"]


def test_files_of_an_earlier_time_are_replaced_in_s3(s3, tmp_path):
    store(tmp_path, {"laws/figures/old.png": b"old", "laws/figures/a.png": b"old", "laws/fit.json": b"[]"})
    with workspace("s3://bucket/laws", "figures/*.png") as folder, atomic_files(folder, "figures/*.png") as aside:
        put(aside, "figures/a.png", b"new")
        put(aside, "fit.json", b"{}")
    assert contents(s3 / "laws") == {"figures/a.png": b"new", "fit.json": b"{}"}


def test_a_local_directory_is_worked_in_as_it_is(tmp_path):
    with workspace(str(tmp_path / "here"), "only/*") as folder:
        assert folder == tmp_path / "here"
    assert local_copy(tmp_path) == tmp_path


def test_workspace_stores_finished_work_on_an_exception(s3):
    def work():
        with workspace("s3://bucket/broken") as folder:
            put(folder, "half.csv", b"1,2")
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        work()
    assert contents(s3 / "broken") == {"half.csv": b"1,2"}


@pytest.mark.usefixtures("s3")
def test_copies_are_made_once_and_a_missing_one_is_named(tmp_path):
    store(tmp_path, {"runs/one/checkpoint.json": b"{}", "runs/one/deep/file": b"1", "runs/one-more": b"2"})
    there = local_copy("s3://bucket/runs/one")
    assert there.name == "one"
    assert contents(there) == {"checkpoint.json": b"{}", "deep/file": b"1"}
    assert local_copy("s3://bucket/runs/one") == there
    assert local_copy("s3://bucket/runs/one-more").read_bytes() == b"2"
    with pytest.raises(ValueError, match="s3://bucket/runs/none: there is nothing there"):
        local_copy("s3://bucket/runs/none")


def test_a_directory_is_not_there_before_its_data_is_and_goes_before_it(s3, tmp_path, monkeypatch):
    """Every state of the bucket on the way is one in which JSON has the data it speaks of."""
    seen = []

    def recorded(act):
        def run(self, *arguments):
            act(self, *arguments)
            seen.append(set(contents(s3 / "order")))

        return run

    monkeypatch.setattr(S3Storage, "upload", recorded(S3Storage.upload))
    monkeypatch.setattr(S3Storage, "remove", recorded(S3Storage.remove))
    sync = S3Sync(S3Storage("s3://bucket/order"), tmp_path / "work")
    for name in ("resume/1", "resume/2", "checkpoints/1"):
        for file in ("checkpoint.json", "policy.safetensors", "extra.safetensors"):
            put(sync.folder, f"{name}/{file}", name.encode())
        sync.upload()
        if name == "resume/2":
            for file in (sync.folder / "resume/1").iterdir():
                file.unlink()
            sync.upload()
    assert len(seen) == 12
    for names in seen:
        for name in names:
            if name.endswith("checkpoint.json"):
                assert {name.replace("checkpoint.json", f) for f in ("policy.safetensors", "extra.safetensors")} < names
    assert any("resume/2/checkpoint.json" in names for names in seen)


def test_large_files_go_in_parts_and_come_back_whole(s3, tmp_path):
    data = np.random.default_rng(0).bytes(2 * PART + 12345)
    put(tmp_path, "large", data)
    storage = S3Storage("s3://bucket/large")
    storage.upload(tmp_path / "large", "file")
    storage.download("file", tmp_path / "back")
    assert (s3 / "large/file").read_bytes() == (tmp_path / "back").read_bytes() == data


@pytest.mark.slow
def test_a_large_file_whose_last_answer_is_lost_is_stored(s3, s3_root, tmp_path, monkeypatch):
    """The server joined the parts, its answer was lost: it does not know the upload any more when asked again."""
    put(tmp_path, "large", bytes(PART + 1))
    with faulty(s3_root[1], share=0.0) as (endpoint, proxy):
        lost = iter(["unanswered"])
        proxy.fault = lambda method, path, _: next(lost, None) if method == "POST" and "uploadId" in path else None
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        S3Storage("s3://bucket/lost").upload(tmp_path / "large", "file")
    assert next(lost, None) is None
    assert contents(s3 / "lost") == {"file": bytes(PART + 1)}


@pytest.mark.slow
def test_nothing_is_lost_to_a_faulty_network(s3, s3_root, tmp_path, monkeypatch, capsys):
    """A directory that changes all the time, through a proxy that harms every fourth request."""
    rng, expected = np.random.default_rng(1), {}
    with faulty(s3_root[1], share=0.25, tolerated=2) as (endpoint, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for turn in range(3):
            with workspace("s3://bucket/storm") as folder:
                assert contents(folder) == expected
                for number in range(20):
                    put(folder, f"{turn}/{number}.bin", rng.bytes(int(rng.integers(1, 100_000))))
                    put(folder, f"{turn}/{number}.json", json.dumps({"turn": turn, "number": number}).encode())
                put(folder, f"large-{turn}", rng.bytes(PART + 1000))
                if turn:
                    for file in (folder / str(turn - 1)).iterdir():
                        file.unlink()
                expected = contents(folder)
    assert contents(s3 / "storm") == expected
    assert set(proxy.injected) == set(FAULTS)
    with capsys.disabled():
        print(f"\nS3: {proxy.requests} requests, faults {dict(proxy.injected)}, {len(expected)} files, lost 0")


def test_an_outage_is_waited_out_while_work_goes_on(s3, s3_root, monkeypatch, caplog):
    monkeypatch.setattr("playscale.storage.s3.ATTEMPTS", 1)
    with faulty(s3_root[1], share=0.0) as (endpoint, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with workspace("s3://bucket/outage") as folder:
            proxy.share, proxy.tolerated, proxy.kinds = 1.0, 10**9, ("refused", "busy")
            proxy.left = 6
            for number in range(10):
                put(folder, str(number), os.urandom(1000))
                time.sleep(0.1)
            expected = contents(folder)
    assert contents(s3 / "outage") == expected
    assert sum(proxy.injected.values()) == 6
    assert any("trying again" in line for line in caplog.messages)


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("key", ["/etc/x", "../x", "a/../../x", "a//x", "./x"])
def test_keys_that_leave_the_folder_are_rejected_and_left_alone(tmp_path, monkeypatch, key):
    monkeypatch.setattr(S3Storage, "_list", lambda *_, **__: {"good": 1, key: 1})
    for act in ("download", "upload", "remove"):
        monkeypatch.setattr(S3Storage, act, lambda _, name, *__, act=act: pytest.fail(f"{act} {name}"))
    monkeypatch.setattr(S3Storage, "check_writable", lambda _: None)
    for place in (workspace("s3://bucket/p"), workspace("s3://bucket/p", store=False)):
        with pytest.raises(ValueError, match=r"s3://bucket/p/.*: .* is no name of a file below a folder"), place:
            pass
    monkeypatch.setattr(S3Storage, "_list", lambda *_, **__: {f"q/{key}": 1})
    with pytest.raises(ValueError, match="s3://bucket/q/.*: .* is no name of a file below a folder"):
        local_copy("s3://bucket/q")


def test_marks_of_folders_are_no_files():
    pages = [{"Contents": [{"Key": key, "Size": 0} for key in ("p/", "p/a/", "p/a/file")]}]
    storage = S3Storage("s3://bucket/p")
    storage._client = SimpleNamespace(get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: pages))
    assert storage.walk() == {"a/file": 0}


def test_a_link_out_of_the_folder_is_not_stored(s3, tmp_path):
    (tmp_path / "secret").write_text("secret")
    says = "'link' leads out of .* by a link"
    with pytest.raises(ValueError, match=says), workspace("s3://bucket/link") as folder:
        (folder / "link").symlink_to(tmp_path / "secret")
    assert contents(s3 / "link") == {}


def test_a_scratch_folder_that_another_program_removed_removes_nothing_in_s3(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 60.0)
    store(tmp_path, {"swept/file": b"1"})

    def work():
        with workspace("s3://bucket/swept") as folder:
            shutil.rmtree(folder)
            put(folder, "other", b"2")

    with pytest.raises(RuntimeError, match=r"another program removed it; set \$PLAYSCALE_SCRATCH"):
        work()
    assert contents(s3 / "swept") == {"file": b"1"}


def refusing(s3_root, monkeypatch, kind):
    monkeypatch.setattr("playscale.storage.s3.ATTEMPTS", 1)
    monkeypatch.setattr(module, "PATIENCE", 0.5)

    @contextlib.contextmanager
    def proxied():
        with faulty(s3_root[1], share=0.0, kinds=(kind,), tolerated=10**9) as (endpoint, proxy):
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            yield proxy

    return proxied()


def test_an_s3_that_refuses_to_write_is_noticed_before_the_work(s3, s3_root, tmp_path, monkeypatch):
    with refusing(s3_root, monkeypatch, "denied") as proxy:
        proxy.share = 1.0
        says = r"s3://bucket/no/: refused \(AccessDenied: planted\)$"
        with pytest.raises(ValueError, match=says), workspace("s3://bucket/no"):
            pytest.fail("begins to work")
        with workspace("s3://bucket/no", store=False):
            pass
        assert not list((tmp_path / "scratch").iterdir())
        proxy.share = 0.0
        with workspace("s3://bucket/no"):
            assert contents(s3 / "no") == {}, "what was written to see if it can be is removed"


@pytest.mark.parametrize(("kind", "error"), [("denied", ValueError), ("expired", ValueError), ("refused", OSError)])
def test_workspace_keeps_files_that_s3_does_not_take(s3, s3_root, tmp_path, monkeypatch, kind, error):
    with refusing(s3_root, monkeypatch, kind) as proxy:
        says = "s3://bucket/kept/a/new: .*; what S3 lacks of s3://bucket/kept/ is kept in .*"

        def work():
            with workspace("s3://bucket/kept") as folder:
                proxy.share = 1.0
                put(folder, "a/new", b"data")

        with pytest.raises(error, match=says) as raised:
            work()
        assert "when_required" not in str(raised.value)
        proxy.share = 0.0
        with workspace("s3://bucket/kept"):
            pass
    (kept,) = (tmp_path / "scratch").iterdir()
    assert str(raised.value).endswith(str(kept))
    assert contents(kept) == {"a/new": b"data"}


@pytest.mark.parametrize("planted", [RuntimeError, KeyboardInterrupt])
def test_the_error_of_the_work_comes_before_that_of_s3(s3, s3_root, tmp_path, monkeypatch, caplog, planted):
    def work(proxy):
        with workspace("s3://bucket/both") as folder:
            proxy.share = 1.0
            put(folder, "new", b"data")
            raise planted("planted")

    with refusing(s3_root, monkeypatch, "denied") as proxy, pytest.raises(planted, match="planted"):
        work(proxy)
    (kept,) = (tmp_path / "scratch").iterdir()
    assert any(line.endswith(f"is kept in {kept}") for line in caplog.messages)


def test_an_interrupt_while_s3_is_waited_for_keeps_the_folder(s3, tmp_path, monkeypatch, caplog):
    def interrupted(self):
        raise KeyboardInterrupt

    def work():
        with workspace("s3://bucket/stop") as folder:
            monkeypatch.setattr(S3Sync, "upload", interrupted)
            put(folder, "new", b"data")

    with pytest.raises(KeyboardInterrupt):
        work()
    (kept,) = (tmp_path / "scratch").iterdir()
    assert contents(kept) == {"new": b"data"}
    assert any(line.endswith(f"is kept in {kept}") for line in caplog.messages)


def test_a_server_that_knows_no_checksums_is_told_of_the_setting(s3, s3_root, tmp_path, monkeypatch):
    put(tmp_path, "large", bytes(PART + 1))
    with refusing(s3_root, monkeypatch, "unsupported") as proxy:
        proxy.share = 1.0
        says = r"refused \(NotImplemented: planted\); .* needs AWS_REQUEST_CHECKSUM_CALCULATION=when_required$"
        with pytest.raises(ValueError, match=says):
            S3Storage("s3://bucket/sums").check_writable()
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        with pytest.raises(ValueError, match=r"refused \(NotImplemented: planted\)$"):
            S3Storage("s3://bucket/sums").check_writable()
        proxy.kinds = ("denied",)
        with pytest.raises(ValueError, match=r"bucket/sums/large: refused \(AccessDenied"):  # of a part
            S3Storage("s3://bucket/sums").upload(tmp_path / "large", "large")


HELD = """
import sys
from playscale.storage.sync import local_copy, workspace
local_copy("s3://bucket/killed")
with workspace("s3://bucket/other"):
    print(flush=True)
    sys.stdin.read()
"""


def test_the_scratch_folders_of_killed_processes_are_removed(s3, tmp_path):
    store(tmp_path, {"killed/file": b"1"})
    scratch = tmp_path / "scratch"
    command = [sys.executable, "-c", HELD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with workspace("s3://bucket/other"):
            assert len(list(scratch.iterdir())) == 3, "a living process keeps its own"
        process.kill()
    with workspace("s3://bucket/other") as folder:
        assert list(scratch.iterdir()) == [folder]


def test_an_endpoint_without_a_scheme_is_named(s3, monkeypatch, caplog):
    caplog.set_level("INFO")
    S3Storage("s3://bucket/x").walk()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(ValueError, match="Invalid endpoint: minio:9000; it must begin with http:// or https://"):
        S3Storage("s3://bucket/x").walk()
    assert not caplog.messages


def test_workspace_refuses_an_object_that_arrives_damaged_each_time(s3, s3_root, tmp_path, monkeypatch):
    put(tmp_path, "file", b"what was stored")
    storage = S3Storage("s3://bucket/damaged")
    storage.upload(tmp_path / "file", "file")
    with faulty(s3_root[1], share=1.0, kinds=("corrupted",), tolerated=10**9) as (endpoint, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        storage = S3Storage("s3://bucket/damaged")
        with pytest.raises(OSError, match="s3://bucket/damaged/file: 5 times, what came was not what was stored"):
            storage.download("file", tmp_path / "back")
        with pytest.raises(OSError, match="s3://bucket/damaged/file: 5 times, what arrived was not what was sent"):
            storage.upload(tmp_path / "file", "file")
        with pytest.raises(OSError, match="s3://bucket/damaged/file: 5 times, what came was not what was stored"):
            storage.read_whole("file")
    assert proxy.injected["corrupted"] == 15
    assert not (tmp_path / "back").exists()


def test_workspace_compares_each_checksum_that_a_server_gives(tmp_path):
    """ETags that are no MD5 of ours say nothing; an SHA-256 of ours always does."""
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"x" * (PART + 1))
        file.seek(0)
        sums = Checksums.of(file)
    whole, parts = sums.etags
    size = {"ContentLength": PART + 1}
    other = "0" * 32
    assert parts.endswith("-2")
    for head, agrees in (
        (size | {"ETag": f'"{whole}"'}, True),
        (size | {"ETag": f'"{parts}"'}, True),
        (size | {"ETag": f'"{other}"'}, False),
        (size | {"ETag": f'"{other}-7"'}, True),
        (size | {"ETag": f'"{other}-7"', "Metadata": {"Sha256": other}}, False),
        (size | {"ETag": f'"{other}"', "ServerSideEncryption": "aws:kms"}, True),
        (size | {"ETag": f'"{other}"', "ServerSideEncryption": "aws:kms", "Metadata": {"sha256": other}}, False),
        ({"ContentLength": 5, "ETag": f'"{whole}"'}, False),
    ):
        assert sums.agree(head) == agrees, head


@pytest.mark.slow
def test_reads_of_a_step_wait_for_an_s3_that_is_away(recall, s3, s3_root, monkeypatch):
    """Opening a corpus, reading its shards, and the files of a study; outside of a step they fail at once."""
    shutil.copytree(recall.uri, s3 / "reads" / "corpus")
    monkeypatch.setattr("playscale.storage.s3.ATTEMPTS", 1)
    expected = [batch["action"] for batch in recall.stream(batch=2, unroll=8, split="dev")]
    with faulty(s3_root[1], share=1.0, kinds=("refused", "busy"), tolerated=10**9) as (endpoint, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

        def away():
            proxy.left = 3

        with patient_reads():
            away()
            corpus = Corpus.open("s3://bucket/reads/corpus")
            away()
            read = [batch["action"] for batch in corpus.stream(batch=2, unroll=8, split="dev")]
            assert proxy.left == 0
            away()
            with workspace("s3://bucket/reads", "corpus/corpus.json", store=False) as folder:
                assert contents(folder).keys() == {"corpus/corpus.json"}
            away()
            assert local_copy("s3://bucket/reads/corpus/corpus.json").is_file()
            assert proxy.left == 0
        assert all(map(np.array_equal, read, expected))
        assert len(read) == len(expected)
        proxy.left = 10**9
        with pytest.raises(OSError, match="s3://bucket/reads/corpus/"):
            Corpus.open("s3://bucket/reads/corpus")
        assert 10**9 - proxy.left <= 2
        monkeypatch.setattr(module, "PATIENCE", 0.3)
        with patient_reads(), pytest.raises(OSError, match="s3://bucket/reads/corpus/"):
            Corpus.open("s3://bucket/reads/corpus")
