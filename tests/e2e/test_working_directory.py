"""`playscale study run` in a directory that holds somebody's own packages of the same names."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from playscale.progress import read_progress

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_study_ignores_packages_in_the_working_directory(tmp_path):
    for name in ("playscale", "pipelines", "components", "benchmarks", "playscale_pipelines", "playscale_components"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('{name} of the working directory')")
    command = [Path(sys.executable).parent / "playscale", "study", "run", ROOT / "studies" / "smoke.yaml"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    out = tmp_path / "out" / "smoke"
    deadline = time.monotonic() + 300
    try:
        while not (out / "corpus" / "corpus.json").exists():  # two tasks are done, with their worker processes
            assert process.poll() is None, process.stderr.read().decode() + (out / "pipeline.log").read_text()[-3000:]
            assert time.monotonic() < deadline, [(task.task, task.what) for task in read_progress(out / "progress")]
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
