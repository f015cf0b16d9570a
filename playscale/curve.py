"""The learning curve of a training run, OUT/curve.csv: one line a report, appended while it trains."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from playscale.storage.files import atomic_file

COLUMNS = (
    "step", "flops", "interactions", "episodes", "train_loss", "grad_norm", "train_return", "entropy",
    "samples_per_second",
)  # fmt: skip
"""What is not measured is empty. train_return: mean score of the last episodes of training."""


@dataclass(frozen=True)
class Curve:
    """A run's curve. A run that goes on from a save drops what it had written after it: it will write that again."""

    path: Path

    def resume(self, step: int) -> None:
        """Keep the lines up to optimizer step `step`."""
        rows = [row for row in read_curve(self.path) if row["step"] <= step]
        lines = [",".join(COLUMNS), *(",".join(_text(row.get(name)) for name in COLUMNS) for row in rows)]
        with atomic_file(self.path, "w") as file:
            file.write("\n".join(lines) + "\n")

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line."""
        values: dict[str, float] = {**metrics, "step": step}
        with self.path.open("a") as file:
            file.write(",".join(_text(values.get(name)) for name in COLUMNS) + "\n")


def read_curve(path: Path) -> list[dict[str, float]]:
    """The lines, each with what was measured; [] where there is no curve. A line cut off by a kill is left out."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values() and row.get("step")]
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if value != round(value) else str(round(value))
