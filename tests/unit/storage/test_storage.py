"""Files and folders are whole or absent."""

import errno
import os
import stat
import subprocess
import sys
from contextlib import suppress

import pytest
from filelock import FileLock

from playscale.storage.files import (
    atomic_dir,
    atomic_file,
    atomic_files,
    local_path,
    locked,
    path_below,
    read_document,
    read_json,
    read_range,
    write_document,
    write_json,
)


def test_local_path():
    assert str(local_path("a/b")) == "a/b"
    assert str(local_path("file:///a/b")) == "/a/b"
    with pytest.raises(ValueError, match="gs://bucket/key: neither a local path nor .* s3://BUCKET/PREFIX"):
        local_path("gs://bucket/key")


def test_local_path_expands_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(local_path("~/a")) == "/home/me/a"
    assert str(local_path("a/~")) == "a/~"
    with pytest.raises(ValueError, match="~nobody-here/a: "):
        local_path("~nobody-here/a")


def test_atomic_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(bytes({}["half"]))
    assert path.read_bytes() == b"whole"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_atomic_dir_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "folder"
    with atomic_dir(path) as aside:
        (aside / "one").write_text("1")
        assert not path.exists()
    with pytest.raises(KeyError), atomic_dir(path) as aside:
        (aside / "two").write_text({}["half"])
    assert [p.name for p in path.iterdir()] == ["one"]
    with atomic_dir(path) as aside:
        (aside / "two").write_text("2")
    assert [p.name for p in path.iterdir()] == ["two"]
    assert [p.name for p in path.parent.iterdir()] == ["folder"]


def test_atomic_dir_follows_links_and_stays_inside_an_empty_directory(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to("real")
    for content in ("1", "2"):  # of a dangling link, then over what is there
        with atomic_dir(link) as aside:
            (aside / "one").write_text(content)
        assert link.is_symlink()
        assert (real / "one").read_text() == content
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / ".mounted.1.partial").mkdir()
    inode = mounted.stat().st_ino
    with pytest.raises(KeyError), atomic_dir(mounted) as aside:
        (aside / "one").write_text({}["half"])
    assert list(mounted.iterdir()) == []
    with atomic_dir(mounted) as aside:
        assert aside.parent == mounted
        for name in ("a.json", "b", "c"):
            (aside / name).write_text(name)
    assert mounted.stat().st_ino == inode
    assert sorted(p.name for p in mounted.iterdir()) == ["a.json", "b", "c"]


HOLD = """
import sys
from pathlib import Path
from playscale.storage.files import atomic_dir, atomic_file
with (atomic_dir if sys.argv[1] == "dir" else atomic_file)(Path(sys.argv[2])) as aside:
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["dir", "file"])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, kind):
    path, leftover = tmp_path / "out[1]", tmp_path / ".out[1].1.partial"
    leftover.mkdir() if kind == "dir" else leftover.touch()
    command = [sys.executable, "-c", HOLD, kind, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        (partial,) = tmp_path.iterdir()
        (tmp_path / ".other.1.partial").touch()
        for _ in range(2):
            with atomic_file(path, "w") as file:
                file.write("mine")
        assert partial.exists()
        writer.kill()
    with atomic_file(path, "w"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.1.partial", "out[1]"]


def test_an_error_names_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as found, atomic_file(tmp_path / "folder"):
        pass
    assert found.value.filename == str(tmp_path / "folder")

    def refused(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("playscale.storage.files.os.open", refused)
    with pytest.raises(PermissionError) as found, atomic_file(tmp_path / "file"):
        pass
    assert found.value.filename == str(tmp_path / "file")


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file"), atomic_dir(tmp_path / "dir"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "dir").stat().st_mode) == 0o750


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "..", "", ".", "a//x", "./a", "a/", "a\0b", "out/x", "up"]
)
def test_path_below_rejects_names_that_leave_the_folder(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "up").symlink_to("../x")
    (folder / "in").symlink_to("a")
    with pytest.raises(ValueError, match="is no name of a file below|leads out of .*folder by a link"):
        path_below(folder, name)
    for good in ("a/b", "..a", "in/b", "a b\u00e9"):
        assert path_below(folder, good) == folder / good


def test_read_range(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_range(path, 3, 4) == b"3456"
    with pytest.raises(ValueError, match=r"file: ends too early \(2 of 4 bytes at 8\)"):
        read_range(path, 8, 4)
    with pytest.raises(ValueError, match="nofile: missing"):
        read_range(tmp_path / "nofile", 0, 1)


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    path = tmp_path / "spec.yaml"
    code = "import sys, pathlib; from playscale.storage.files import read_text; read_text(pathlib.Path(sys.argv[1]))"
    ascii_only = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    for text, says in ((b"name: caf\xc3\xa9", ""), (b"name: caf\xe9", "spec.yaml: not UTF-8 text (byte 9)")):
        path.write_bytes(text)
        command = [sys.executable, "-c", code, str(path)]
        result = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False)
        assert says in result.stderr
        assert (result.returncode == 0) == (not says)


def test_json_is_read_as_written_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    (tmp_path / "c.json").write_text('{"x":\n oops}')
    with pytest.raises(ValueError, match=r"c.json: not valid JSON \(line 2"):
        read_json(tmp_path / "c.json")
    (tmp_path / "d.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"d.json: not valid JSON"):
        read_json(tmp_path / "d.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "c.json", "d.json"]


def test_of_a_lock_nothing_is_left_where_nothing_was_written(tmp_path):
    (tmp_path / "there").mkdir()
    for out in ("new/out", "there/out"):
        with pytest.raises(ValueError, match="refused"), locked(tmp_path / out, "a"), locked(tmp_path / out, "b"):
            raise ValueError("refused")
    with pytest.raises(ValueError, match="refused"), atomic_dir(tmp_path / "new" / "out"):
        raise ValueError("refused")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    with pytest.raises(ValueError, match="late"), locked(tmp_path / "there", "a"):
        raise ValueError("late")
    with locked(tmp_path / "new", "a"):
        (tmp_path / "new" / "kept").touch()
    assert (tmp_path / "new" / ".lock").exists()


def test_a_lock_whose_directory_was_removed_meanwhile_makes_it_again(tmp_path, monkeypatch):
    acquire = FileLock.acquire

    def removed_first(lock, **options):
        monkeypatch.setattr(FileLock, "acquire", acquire)
        (tmp_path / "out").rmdir()
        return acquire(lock, **options)

    monkeypatch.setattr(FileLock, "acquire", removed_first)
    with locked(tmp_path / "out", "a"):
        assert (tmp_path / "out" / ".lock").exists()


def test_atomic_files_write_all_or_none(tmp_path):
    folder = tmp_path / "out"
    with suppress(ZeroDivisionError), atomic_files(folder) as aside:
        (aside / "fit.json").write_text("1")
        1 / 0  # noqa: B018
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine").write_text("kept")
    with atomic_files(folder) as aside:
        (aside / "figures").mkdir()
        (aside / "figures" / "a.png").write_text("a")
        (aside / "fit.json").write_text("1")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["figures/a.png", "fit.json", "mine"]


def test_document_that_is_read_changed_and_written_is_read_again(tmp_path):
    path = tmp_path / "plan.json"
    write_document(path, {"runs": 1})
    write_document(path, read_document(path, dict[str, int]) | {"runs": 2})
    assert read_document(path, dict[str, int]) == {"runs": 2}
    path.write_text(path.read_text().replace("2", "3", 1))
    with pytest.raises(ValueError, match=r"plan\.json: damaged .*; run again"):
        read_document(path, dict[str, int], "run again")


def test_atomic_files_replace_what_a_pattern_names(tmp_path):
    for name in ("figures/old.png", "figures/mine.txt", "figures/a.png", "figures/folder.png/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    with suppress(ZeroDivisionError), atomic_files(tmp_path, "figures/*.png") as aside:
        1 / 0  # noqa: B018
    assert (tmp_path / "figures" / "old.png").exists()
    with atomic_files(tmp_path, "figures/*.png") as aside:
        (aside / "figures").mkdir()
        (aside / "figures" / "a.png").write_text("new")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["figures/a.png", "figures/folder.png/x", "figures/mine.txt"]
    assert (tmp_path / "figures" / "a.png").read_text() == "new"


@pytest.mark.parametrize("make", [atomic_files, atomic_dir])
def test_an_error_names_the_file_that_was_asked_for(make, tmp_path):
    with pytest.raises(FileNotFoundError) as error, make(tmp_path / "out") as aside:
        (aside / "no" / "report.html").write_text("")
    assert error.value.filename == str(tmp_path / "out" / "no" / "report.html")
