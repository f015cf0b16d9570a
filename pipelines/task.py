"""Run a task of kfp.local as a fork of the warm process; what kfp.local takes for the interpreter (see warm.py).

    python -IS task.py FOLDER_OF_FORK_SERVER -m MODULE ARGUMENT...

Where no server answers, it becomes an interpreter that runs the module. It imports no package: a start takes 20 ms.
"""

import os
import sys


def main(folder: str, *arguments: str) -> int:
    """Return the task's exit code."""
    sys.path.insert(0, folder)
    from fork_server import fork  # type: ignore[import-not-found]

    process = fork(arguments, {0: 0, 1: 1, 2: 2})
    if process is None:
        os.execv(sys.executable, [sys.executable, "-P", *arguments])  # noqa: S606 - in this one's place
    code: int = process.wait()
    _remove_code(arguments)
    return code if code >= 0 else 128 - code


def _remove_code(arguments: tuple[str, ...]) -> None:
    """Remove the folder in which kfp.local's shell has put the code of a task: it leaves it behind."""
    option = "--component_module_path"
    if option in arguments[:-1]:
        folder, _, _ = arguments[arguments.index(option) + 1].rpartition("/")
        if folder.rpartition("/")[2].startswith("tmp."):  # as mktemp names it
            import shutil

            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
