"""Work on a directory in S3: a real server, with faults between; what is torn is never taken for whole."""

import json
import os
import time

import numpy as np
import pytest
from faulty_proxy import FAULTS, faulty

from playscale.storage import sync as module
from playscale.storage.s3 import PART, Checksums, S3Storage
from playscale.storage.sync import S3Sync, local_copy, workspace


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


def test_what_is_there_is_fetched_and_what_changes_is_stored(s3, tmp_path):
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


def test_a_local_directory_is_worked_in_as_it_is(tmp_path):
    with workspace(str(tmp_path / "here"), "only/*") as folder:
        assert folder == tmp_path / "here"
    assert local_copy(tmp_path) == tmp_path


def test_what_was_done_before_an_exception_is_stored(s3):
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


def test_an_s3_that_stays_away_is_one_clear_line(s3, s3_root, monkeypatch):
    monkeypatch.setattr("playscale.storage.s3.ATTEMPTS", 1)
    monkeypatch.setattr(module, "PATIENCE", 0.5)

    def work(proxy):
        with workspace("s3://bucket/away") as folder:
            proxy.share, proxy.tolerated, proxy.kinds = 1.0, 10**9, ("refused",)
            put(folder, "file", b"data")

    with faulty(s3_root[1], share=0.0) as (endpoint, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(OSError, match="s3://bucket/away/file: "):
            work(proxy)


def test_what_is_damaged_every_time_is_refused(s3, s3_root, tmp_path, monkeypatch):
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


def test_whatever_sums_a_server_gives_are_compared(tmp_path):
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
