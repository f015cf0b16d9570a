"""Processes that do not outlive the one they work for."""

from __future__ import annotations

import os
import select
import threading


def follow(pid: int) -> None:
    """End this process at once when process `pid` ends, even by kill -9. For work that a rerun picks up."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
