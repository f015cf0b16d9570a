"""What training measures of itself from step to step, and the watch for numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


class NonFiniteError(RuntimeError):
    """The loss or its gradient became infinite or NaN. `record` describes the step and the data it saw."""

    monitored = True  # counted as an error of its own kind (cells.py)

    def __init__(self, what: str, value: float, step: int, samples: int, games: list[str]) -> None:
        self.record = {"what": what, "value": str(value), "step": step, "samples": samples, "games": games}
        in_games = f", in a batch of games {', '.join(games)}" if games else ""
        super().__init__(
            f"{what} became {value} at step {step} ({samples:,} samples){in_games}; "
            "the last good state is kept: a lower learning rate or clip norm in another output directory may help"
        )


@dataclass
class Meter:
    """Sums since the last report (settled steps only).

    A step's loss and gradient norm stay on the device until `settle`, so that the device never waits for a step to be
    counted. Sums are added step by step, so they do not depend on how often they are settled.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    steps: int = 0
    _pending: list[tuple[int, torch.Tensor, list[int]]] = field(default_factory=list)

    def add(self, step: int, loss: torch.Tensor, grad_norm: torch.Tensor, game_ids: list[int]) -> None:
        """Note step number `step` (from 1): its loss and gradient norm (scalars on the device), and its games."""
        self._pending.append((step, torch.stack((loss.detach().float(), grad_norm.detach().float())), game_ids))

    @property
    def pending(self) -> int:
        return len(self._pending)

    def settle(self, samples_per_step: int, game_key: Callable[[int], str]) -> None:
        """Count the pending steps; NonFiniteError at the first bad one. `game_key`: a game's key by its id."""
        if not self._pending:
            return
        values = torch.stack([value for _, value, _ in self._pending]).tolist()
        for (step, _, game_ids), (loss, grad_norm) in zip(self._pending, values, strict=True):
            for what, value in (("loss", loss), ("gradient norm", grad_norm)):
                if not math.isfinite(value):
                    games = [game_key(index) for index in game_ids]
                    raise NonFiniteError(what, value, step, step * samples_per_step, games)
            self.loss += loss
            self.grad_norm += grad_norm
            self.steps += 1
        self._pending.clear()

    def report(self) -> dict[str, float]:
        """Means over the settled steps since the last report; starts anew. There must have been one."""
        assert self.steps
        means = {"train_loss": self.loss / self.steps, "grad_norm": self.grad_norm / self.steps}
        self.loss, self.grad_norm, self.steps = 0.0, 0.0, 0
        return means
