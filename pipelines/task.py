"""Run a task of kfp.local as a fork of the warm process; what kfp.local takes for the interpreter (see warm.py).

    python -IS task.py FOLDER_OF_FORK_SERVER -m MODULE ARGUMENT...

Where no server answers, it becomes an interpreter that runs the module. It imports no package: a start takes 20 ms.
"""

import os
import sys

TMPDIR = "PLAYSCALE_TMPDIR"  # what TMPDIR was before it named the folder of the tasks' code; "": nothing


def main(folder: str, *arguments: str) -> int:
    """Return the task's exit code."""
    sys.path.insert(0, folder)
    from fork_server import fork  # type: ignore[import-not-found]

    restore_temporary()
    process = fork(arguments, {0: 0, 1: 1, 2: 2})
    if process is None:
        os.execv(sys.executable, [sys.executable, "-P", *arguments])  # noqa: S606 - in this one's place
    code: int = process.wait()
    return code if code >= 0 else 128 - code


def restore_temporary() -> None:
    """Let TMPDIR be what it was."""
    before = os.environ.pop(TMPDIR, None)
    if before is not None:
        os.environ.pop("TMPDIR")
    if before:
        os.environ["TMPDIR"] = before


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
