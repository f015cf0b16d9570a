"""Run the study pipeline on this machine; `playscale study run` starts it: -m pipelines.local SPEC OUT TRACKING_URI."""

import os
import sys
from pathlib import Path

from kfp import local

from pipelines.study import study
from pipelines.warm import warm
from playscale.lifeline import follow
from playscale.steps import PROGRESS, SUPERVISOR


def main(spec: str, out: str, tracking_uri: str) -> None:
    """Run every task as a subprocess of this interpreter; artifacts of Kubeflow go below OUT/kfp."""
    if supervisor := os.environ.get(SUPERVISOR):
        follow(int(supervisor))
    with warm():
        folder = Path(progress).parent if (progress := os.environ.get(PROGRESS)) else Path(out)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"))
        study(spec=Path(spec).read_text(), out=out, tracking_uri=tracking_uri)


if __name__ == "__main__":
    main(*sys.argv[1:])
