"""Fast starts of tasks: each is forked from a process that has already imported torch, MLflow and the other packages.

kfp.local starts an interpreter for every task, which spends 3 to 5 seconds of processor time on imports before its
first line of work; a study has a dozen tasks. Here the "interpreter" that it starts is this file, run without any
package: it passes its arguments, environment and output to the warm process, which forks. Without a warm process it
becomes a plain interpreter. The warm process only imports: it has no Python thread, CUDA context or open file that
could get into a task.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ADDRESS = "PLAYSCALE_WARM"  # the warm process's address, in the environment of tasks
PRELOADED = (
    "kfp.dsl.executor_main",
    "playscale.study.steps",
    "playscale.corpus.prepare",
    "playscale.rollout.evaluate",
    "playscale.training.bc",
    "playscale.training.impala",
    "playscale.tracking.mlflow_tracker",
    "mlflow.store.tracking.sqlalchemy_store",
    "torch._dynamo",  # which the first optimizer imports
)
LONGEST = 1 << 22  # bytes of a request, which holds a task's command line and environment


@contextmanager
def warm() -> Iterator[None]:
    """Fork kfp.local's tasks inside. The warm process ends with this one, in whatever way that ends."""
    import shlex
    import subprocess

    if sys.platform != "linux":  # on other systems, forking after these imports is not safe
        yield
        return
    plain = sys.executable
    with socket.socket(socket.AF_UNIX) as listener:
        name = f"playscale-{os.urandom(8).hex()}"
        listener.bind(f"\0{name}")  # an abstract name: no file is left behind
        listener.listen()
        code = f"from playscale_pipelines.warm import serve; serve({listener.fileno()})"
        process = subprocess.Popen(
            [plain, "-P", "-c", code],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=os.environ | {"_KFP_RUNTIME": "true"},  # as kfp itself sets it for a task: no client, no compiler
        )
    with process:  # leaving closes its stdin, upon which it ends
        os.environ[ADDRESS] = name
        sys.executable = shlex.join([plain, "-IS", __file__])  # kfp.local puts it into a line for the shell
        try:
            yield
        finally:
            sys.executable = plain


def serve(listener_fd: int) -> None:
    """Serve as the warm process: fork for every request until stdin closes."""
    import gc
    import importlib
    import select
    import signal

    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the tasks' clients wait for them, this process does not
    listener = socket.socket(fileno=listener_fd)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _task(connection)
            return
        connection.close()


def _task(connection: socket.socket) -> None:
    """Run the module of a client's request, and send the exit code."""
    import runpy

    request, fds, _, _ = socket.recv_fds(connection, LONGEST, 3)
    while not request.endswith(b"\n"):
        request += connection.recv(LONGEST)
    task = json.loads(request)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(task["environment"])
    os.chdir(task["directory"])
    _, module, *arguments = task["arguments"]
    sys.argv = [module, *arguments]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        _remove_code(arguments)
        with suppress(BrokenPipeError):  # the client was stopped
            connection.sendall(bytes([code & 0xFF]))
    sys.exit(code)


def _remove_code(arguments: list[str]) -> None:
    """Remove the folder in which kfp.local's shell has put the code of a task: it leaves it behind."""
    import shutil

    option = "--component_module_path"
    if option in arguments[:-1]:
        folder, _, _ = arguments[arguments.index(option) + 1].rpartition("/")
        if folder.rpartition("/")[2].startswith("tmp."):  # as mktemp names it
            shutil.rmtree(folder, ignore_errors=True)


def client(arguments: list[str]) -> int:
    """Run a task in the warm process, as kfp.local starts it with `-m MODULE ARGUMENT...`; return its exit code."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{os.environ[ADDRESS]}")
    except (OSError, KeyError):
        os.execv(sys.executable, [sys.executable, "-P", *arguments])  # noqa: S606 - in this one's place
    task = {"arguments": arguments, "environment": dict(os.environ), "directory": os.getcwd()}  # noqa: PTH109 - pathlib takes longer to import than all of this
    request = json.dumps(task).encode() + b"\n"
    sent = socket.send_fds(connection, [request], [0, 1, 2])
    connection.sendall(request[sent:])
    code = connection.recv(1)
    return code[0] if code else 137  # no exit code: the task was killed


if __name__ == "__main__":
    sys.exit(client(sys.argv[1:]))
