"""Run a pipeline on this machine; `playscale study run` and `playscale study forecast` start it.

python -m playscale_pipelines.local SPEC OUT TRACKING_URI RUNNER study|forecast PARAMETERS

PARAMETERS: further parameters of the pipeline, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playscale.processes.signals import follow
from playscale.storage.files import read_text
from playscale.study.context import PROGRESS, SUPERVISOR

from .warm import warm

if TYPE_CHECKING:
    from kfp import local


def main(spec_path: str, out: str, tracking_uri: str, runner: str, pipeline: str, parameters: str) -> None:
    """Run every task as a subprocess of this interpreter, or in a container. Kubeflow's artifacts go to OUT/kfp."""
    if supervisor := os.environ.get(SUPERVISOR):
        follow(int(supervisor))
    folder = Path(progress).parent if (progress := os.environ.get(PROGRESS)) else Path(out)
    with _runner(runner, read_text(Path(spec_path)), folder) as (chosen, spec):
        from kfp import local

        from .compile import PIPELINES

        root = folder / "kfp"
        root.mkdir(exist_ok=True)
        local.init(chosen, pipeline_root=str(root), workspace_root=str(root / "workspace"))  # else a folder in /tmp
        PIPELINES[pipeline]()(spec=spec, out=out, tracking_uri=tracking_uri, **json.loads(parameters))


@contextmanager
def _runner(name: str, spec: str, folder: Path) -> Iterator[tuple[local.SubprocessRunner | local.DockerRunner, str]]:
    """Yield kfp.local's runner, and the spec as the tasks can read it. The tasks may write to `folder`."""
    if name == "subprocess":
        with warm(folder / "kfp" / "code"):  # it imports while kfp is imported here
            from kfp import local

            yield local.SubprocessRunner(use_venv=False), spec
        return
    from .containers import absolute_inputs, containers

    spec, inputs = absolute_inputs(spec)
    with containers(folder, inputs) as runner:
        yield runner, spec


if __name__ == "__main__":
    main(*sys.argv[1:])
