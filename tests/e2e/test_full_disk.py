"""A disk that fills up: one line, exit code 1, nothing half-written; a rerun on a larger disk completes."""

import os
import subprocess

import pytest
from resources import need


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    need(mounted, "right to mount a tmpfs", "PLAYSCALE_REQUIRE_TMPFS")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_prepare_on_a_full_disk_fails_in_one_line_and_leaves_no_file(cli, small_disk, tmp_path):
    assert cli("collect", "--games", 4, "--max-steps", 500, "--out", "games", cwd=tmp_path).returncode == 0
    result = cli("prepare", "games", "--out", small_disk / "corpus", cwd=tmp_path)
    assert result.returncode == 1
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []
    assert cli("prepare", "games", "--out", "corpus", cwd=tmp_path).returncode == 0
