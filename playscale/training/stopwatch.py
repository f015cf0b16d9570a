"""Where the seconds of a run went, by part; the parts add up to the time watched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Part = Literal["data", "step", "dev", "save"]


class Stopwatch:
    """Wall seconds by part: waiting for data, optimizer steps, dev loss, saving. Kept over restarts of a run."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = {"data": 0.0, "step": 0.0, "dev": 0.0, "save": 0.0, **(seconds or {})}
        self._told = dict(self.seconds)

    @contextmanager
    def spent(self, part: Part) -> Iterator[None]:
        """Count the time inside as spent on `part`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begin

    @property
    def training(self) -> float:
        """Seconds that samples_per_second is counted over: those of data and steps."""
        return self.seconds["data"] + self.seconds["step"]

    def untold(self) -> dict[str, float]:
        """Seconds by part since this was last asked, or since the run went on."""
        since = {part: seconds - self._told[part] for part, seconds in self.seconds.items()}
        self._told = dict(self.seconds)
        return since
