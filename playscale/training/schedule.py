"""The schedule of a run: the learning rate of each step, and the step of each budget's cell.

One constant-rate run per model size: the checkpoint at the step nearest to a budget is that budget's cell (Tuyls et
al., arXiv 2307.09423). With a cooldown, a branch leaves the run at (1 - cooldown) of the budget's steps, decays
linearly to zero, and ends at the budget: the cell is the end of the branch. The run itself continues as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from playscale.config import PLAYING_METHODS, TrainConfig

MIN_STEPS = 5
"""A cell of fewer optimizer steps says nothing about its model: Adam has hardly left the initial weights."""

DEV_LOOKS = 20
DEV_SHARE = 0.02

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
RMSPROP_ALPHA, RMSPROP_EPS = 0.99, 1e-5


PLAYING_FACTOR = 0.6
"""Factor on the rate of cloning for methods that play: gradients of returns are noisier than those of losses."""


def recipe_learning_rate(params: int, method: str = "bc") -> float:
    """Return the constant learning rate for a model with this number of trained parameters.

    Tuned on LSTM policies at batch 8 x 16 over NetHack games of the built-in expert (54,117 transitions); dev loss:

        100k at 50k samples (391 steps): 2.5e-3 1.48, 4e-3 1.57, 6e-3 1.62
        300k at 10k samples (80 steps):  2e-3 2.09, 4e-3 1.96, 8e-3 2.42;  at 20k: 2.00, 1.88, 1.88

    One seed each, so differences below 0.1 are not to be trusted. At batch 8 x 32 the best were 1e-2 at 10k, 6e-3 to
    1.2e-2 at 30k, 4e-3 at 100k. The slope leads to the 1e-4 to 2e-4 of Tuyls et al. at 100M to 500M parameters.
    """
    return min(1e-2, max(1e-4, 3e-3 * (params / 1e5) ** -0.35)) * (PLAYING_FACTOR if method in PLAYING_METHODS else 1.0)


def constant_rate(step: int, peak: float, warmup_steps: int) -> float:
    """Return the rate of step `step` (from 0): linear up to `peak` over `warmup_steps`, then constant."""
    return peak * min(1.0, (step + 1) / (warmup_steps + 1))


@dataclass(frozen=True)
class Cell:
    """One budget of a run. Steps count optimizer steps from the start of the run.

    At `step` the budget is reached, at `branch_step` its cooldown leaves the run (equal to `step`: no cooldown).
    """

    budget: float
    branch_step: int
    step: int

    def cooled(self, step: int, rate: float) -> float:
        """Return `rate` decayed linearly over the branch: whole just before it, zero just after its last step."""
        return rate * min(1.0, (self.step - step) / (self.step - self.branch_step + 1))


def plan_cells(config: TrainConfig, flops_per_sample: int) -> list[Cell]:
    """Return the cells of a run by step; ValueError for a budget of fewer than MIN_STEPS optimizer steps."""
    cells = []
    for budget in config.cells:
        samples = budget / flops_per_sample
        step = round(samples / config.samples_per_step)
        if step < MIN_STEPS:
            least = MIN_STEPS * config.samples_per_step * flops_per_sample
            raise ValueError(
                f"budget {budget:g} pays for {samples:,.0f} samples at size {config.size}, fewer than {MIN_STEPS} "
                f"optimizer steps of {config.batch} x {config.unroll}: raise it to at least {least:.2g}, "
                "or choose a smaller size, batch or unroll"
            )
        cells.append(Cell(budget, step - round(config.cooldown * step), step))
    return sorted(cells, key=lambda cell: (cell.branch_step, cell.step))


class Work:
    """The progress of a run, counted in the optimizer steps of the run and of all its branches."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self.total = cells[-1].branch_step + sum(cell.step - cell.branch_step for cell in cells)

    def of_run(self, step: int) -> float:
        """Return the fraction done when the constant run is at `step`; branches that left it before are done too."""
        branches = sum(cell.step - cell.branch_step for cell in self._cells if cell.branch_step < step)
        return (step + branches) / self.total

    def of_branch(self, branch: Cell) -> Callable[[int], float]:
        """Return the fraction done as a function of the step of a branch."""
        before = sum(cell.step - cell.branch_step for cell in self._cells[: self._cells.index(branch)])
        return lambda step: (step + before) / self.total


def dev_looks(steps: int, samples_per_step: int, dev_samples: int) -> frozenset[int]:
    """Return steps between the cells at which dev loss is measured for its curve: evenly spread, at most DEV_LOOKS.

    A sample of dev loss costs a forward pass, a third of a training sample. All measurements together cost at most
    DEV_SHARE of the training.
    """
    affordable = int(DEV_SHARE * 3 * steps * samples_per_step / dev_samples)
    looks = min(DEV_LOOKS, affordable)
    return frozenset(round(steps * i / (looks + 1)) for i in range(1, looks + 1))
