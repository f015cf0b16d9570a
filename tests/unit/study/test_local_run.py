"""What is said when the pipeline's process ends without a task that says why."""

from types import SimpleNamespace

import pytest

from playscale.study import local_run
from playscale.study.local_run import LocalStudy


@pytest.mark.parametrize(("free", "says"), [(10**9, "code 1; its log"), (100, "code 1, and its disk is full")])
def test_a_pipeline_that_ends_on_a_full_disk_says_so(tmp_path, monkeypatch, free, says):
    monkeypatch.setattr(local_run.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    study = LocalStudy(tmp_path / "s.yaml", None, str(tmp_path), tmp_path, "", "subprocess")
    with pytest.raises(RuntimeError, match=says):
        study._check(1)
