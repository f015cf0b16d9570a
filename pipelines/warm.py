"""Fast starts of tasks: each is forked from a process that has already imported torch, MLflow and the other packages.

kfp.local starts an interpreter for every task, which spends 3 to 5 seconds of processor time on imports before its
first line of work; a study has a dozen tasks, and their worker processes import as much. Here the "interpreter" that
kfp.local starts is `task.py`, which has the task forked; so are the workers of the tasks.

kfp.local's shell puts the code of each task into a folder that it never removes: all are in one that is removed here.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playscale.processes import fork_server

from .task import TMPDIR, restore_temporary

PRELOADED = (
    "kfp.dsl.executor_main",
    "playscale.study.steps",
    "playscale.corpus.prepare",
    "playscale.rollout.evaluate",
    "playscale.rollout.evaluation_worker",
    "playscale.rollout.env_worker",
    "playscale.rollout.actor",
    "playscale.games.nethack.env",  # nle imports much
    "playscale.training.bc",
    "playscale.training.impala",
    "playscale.tracking.mlflow_tracker",
    "mlflow.store.tracking.sqlalchemy_store",
)


@contextmanager
def warm(code: Path) -> Iterator[None]:
    """Fork kfp.local's tasks inside. The folder `code` is theirs: it is emptied first, and removed in the end."""
    plain, temporary = sys.executable, os.environ.get("TMPDIR")
    client, server = Path(__file__).with_name("task.py"), Path(fork_server.__file__).parent
    # As kfp itself sets it for a task: no client, no compiler.
    with fork_server.fork_server(PRELOADED, {"_KFP_RUNTIME": "true"}):
        if fork_server.ADDRESS in os.environ:
            # kfp.local puts it into a line for the shell.
            sys.executable = shlex.join([plain, "-IS", str(client), str(server)])
            shutil.rmtree(code, ignore_errors=True)
            code.mkdir(parents=True)
            os.environ |= {"TMPDIR": str(code), TMPDIR: temporary or ""}
        try:
            yield
        finally:
            sys.executable = plain
            restore_temporary()
            shutil.rmtree(code, ignore_errors=True)
