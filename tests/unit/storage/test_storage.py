"""Files and folders are whole or absent."""

import os
import subprocess
import sys

import pytest

from playscale.storage.files import atomic_dir, atomic_file, local_path, read_json, read_range, write_json


def test_local_path():
    assert str(local_path("a/b")) == "a/b"
    assert str(local_path("file:///a/b")) == "/a/b"
    with pytest.raises(ValueError, match="s3://bucket/key: only local paths"):
        local_path("s3://bucket/key")


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


def test_atomic_dir_removes_what_the_dead_left_and_nothing_else(tmp_path):
    with subprocess.Popen(["true"]) as dead:
        pass
    kept = [f".folder.{os.getppid()}.partial", f".other.{dead.pid}.partial", ".folder.partial"]
    for name in (f".folder.{dead.pid}.partial", f".folder.{os.getpid()}.partial", *kept):
        (tmp_path / name / "inside").mkdir(parents=True)
    with atomic_dir(tmp_path / "folder"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "folder"])


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


def test_json(tmp_path):
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
