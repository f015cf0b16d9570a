"""A process that has imported what others will need, and forks them: a start without imports takes milliseconds.

Importing torch and MLflow takes seconds of processor time, which a fresh interpreter spends before its first line of
work. The server only imports: it has no Python thread, CUDA context or open file that could get into a fork. It forks
for every request on its socket (an abstract address, given to descendants in the environment variable ADDRESS) and
reports the fork's process id and, at its end, its status.

This file imports the standard library alone, and little of it: clients that are started for a moment import it too.
"""

import array
import json
import os
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import selectors

ADDRESS = "PLAYSCALE_FORK_SERVER"
MOST_DESCRIPTORS = 200  # one message carries at most 253
_WORD = struct.Struct("i")
_BYTES = 1 << 22


class Fork:
    """A process forked by the server, with what it needs of the interface of subprocess.Popen."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = self._word()
        self.returncode: int | None = None
        if self.pid < 0:
            raise OSError("the fork server is gone")

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, minus the signal where one killed it. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = self._word()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0) from None
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, 9)

    def _word(self) -> int:
        """Return the next number that the server reports; minus SIGKILL where the server is gone."""
        words = self._connection.recv(_WORD.size, socket.MSG_WAITALL)
        return int(_WORD.unpack(words)[0]) if len(words) == _WORD.size else -9


def fork(arguments: Sequence[str], descriptors: dict[int, int], *, own_group: bool = False) -> Fork | None:
    """Run `python ARGUMENT...` in a fork of the server; None where no server answers.

    Args:
        arguments: Those of an interpreter: -c CODE, or -m MODULE ARGUMENT...
        descriptors: File descriptors of this process by the number that they are to have there; 0 to 2 must be given.
        own_group: The fork leads a process group of its own, so that Ctrl-C does not reach it.
    """
    address = os.environ.get(ADDRESS)
    if not address or len(descriptors) > MOST_DESCRIPTORS:
        return None
    request = {
        "arguments": list(arguments), "environment": dict(os.environ), "directory": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to import than all of this
        "descriptors": list(descriptors), "own_group": own_group,
    }  # fmt: skip
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{address}")
        if not _same_user(connection):
            raise PermissionError("the fork server is another user's")
        data = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [data], list(descriptors.values()))
        connection.sendall(data[sent:])
        return Fork(connection)
    except OSError:
        connection.close()
        return None


@contextmanager
def fork_server(modules: Sequence[str], environment: dict[str, str]) -> Iterator[None]:
    """Have a server inside, for this process and its descendants. It ends with this process, however that ends.

    Args:
        modules: What it imports, where it is installed.
        environment: Variables set while it imports, beside those of this process.
    """
    if sys.platform != "linux":  # on other systems, forking after such imports is not safe
        yield
        return
    with socket.socket(socket.AF_UNIX) as listener:
        name = f"playscale-{os.urandom(8).hex()}"
        listener.bind(f"\0{name}")  # an abstract name: no file is left behind
        listener.listen(128)
        code = f"from playscale.processes.fork_server import serve; serve({listener.fileno()}, {list(modules)!r})"
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=os.environ | environment,
        )
    before = os.environ.get(ADDRESS)
    with server:  # leaving closes its stdin, upon which it ends
        os.environ[ADDRESS] = name
        try:
            yield
        finally:
            os.environ.pop(ADDRESS)
            if before is not None:
                os.environ[ADDRESS] = before


def serve(listener_fd: int, modules: Sequence[str]) -> None:
    """Fork for every request until stdin closes."""
    import gc
    import importlib
    import selectors

    for module in modules:
        with suppress(ImportError):  # of an extra that is not installed: who needs it says so
            importlib.import_module(module)
    gc.freeze()
    listener = socket.socket(fileno=listener_fd)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is not listener:
                selector.unregister(key.fileobj)
                _report_end(key.fd, *key.data)
                continue
            connection, _ = listener.accept()
            if not _same_user(connection):
                connection.close()
                continue
            if (pid := os.fork()) == 0:
                _close(selector)
                _end(_run(connection))
            with suppress(OSError):  # who asked for it is gone
                connection.sendall(_WORD.pack(pid))
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))


def _same_user(connection: socket.socket) -> bool:
    """Return whether the process at the other end has this one's user: anyone may connect to, or have, such a name."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.geteuid())


def _close(selector: "selectors.DefaultSelector") -> None:
    """Close in a fork what the server listens on, but for its stdin."""
    for key in list(selector.get_map().values()):
        if key.data:
            os.close(key.fd)
            key.data[1].close()
        elif key.fileobj is not sys.stdin:
            key.fileobj.close()  # type: ignore[union-attr]
    selector.close()


def _report_end(handle: int, pid: int, connection: socket.socket) -> None:
    """Reap a fork and send its exit code."""
    os.close(handle)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):  # who asked for it is gone
        connection.sendall(_WORD.pack(os.waitstatus_to_exitcode(status)))
    connection.close()


def _end(code: int) -> NoReturn:
    """End a fork without taking its interpreter apart: that takes a second after such imports."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads, as an interpreter does
    atexit._run_exitfuncs()  # noqa: SLF001 - neither has a public name
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(connection: socket.socket) -> int:
    """Be the process of a request; return its exit code."""
    data, received = bytearray(), array.array("i")
    while not data.endswith(b"\n"):
        part, fds, _, _ = socket.recv_fds(connection, _BYTES, MOST_DESCRIPTORS)
        if not part:
            return 1
        data += part
        received.extend(fds)
    connection.close()
    request = json.loads(data)
    place_descriptors(request["descriptors"], received)
    if request["own_group"]:
        os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    try:
        _interpret(*request["arguments"])
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - as an interpreter does
        traceback.print_exc()
        return 1
    return 0


def _interpret(option: str, what: str, *arguments: str) -> None:
    """Run `-c CODE` or `-m MODULE ARGUMENT...`."""
    import runpy

    if option == "-c":
        exec(what, {"__name__": "__main__"})  # noqa: S102 - the code that the interpreter would run
        return
    sys.argv = [what, *arguments]
    runpy.run_module(what, run_name="__main__", alter_sys=True)


def place_descriptors(numbers: Sequence[int], received: Sequence[int]) -> None:
    """Give the received descriptors, in any order and at any place, these numbers; what had them is closed."""
    import fcntl

    above = max(numbers, default=0) + 1  # a number that is still to be given would close what was moved there
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in received]
    for fd in received:
        os.close(fd)
    for fd, number in zip(moved, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
