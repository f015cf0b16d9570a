"""An agent at its episodes: N episodes in lockstep, one batched forward a step, actions sampled per episode.

Shapes: T = 1 step, N running episodes, A actions.

An episode's actions depend on the agent and the settings alone, never on time or on how many workers there are: the
same episodes always share their forwards, in the same rows, and each draws from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import Advance, Episode, Task
from playscale.rollout.evaluation import Settings

_DRAWN = 1024  # uniforms drawn at once for an episode: a call per step would cost more than the draw

State = dict[str, Tensor]


class Output(Protocol):
    @property
    def logits(self) -> Tensor: ...
    @property
    def state(self) -> Any: ...


class Agent(Protocol):
    """What plays: agents.Policy does. See there for shapes."""

    def initial_state(self, batch: int, device: str | None = None) -> State: ...
    def __call__(self, batch: dict[str, Tensor], state: State) -> Output: ...


def sample_actions(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """Actions [N] from softmax(logits / temperature), logits [N, A], by inverting its distribution function at uniforms
    [N] in [0, 1); temperature 0 is the most likely action. In float64, so that rare actions keep their chance.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    below = cumulative <= uniforms[:, None] * cumulative[:, -1:]
    return below.sum(-1).clamp(max=logits.shape[-1] - 1)


class Dice:
    """A stream of uniforms for every episode, fixed by (seed of the evaluation, episode)."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        self._generators = [np.random.Generator(np.random.Philox(key=[seed, task.index])) for task in tasks]
        self._drawn = np.empty((len(tasks), _DRAWN))

    def roll(self, step: int, rows: np.ndarray) -> np.ndarray:
        """The uniforms [N] of step `step` for the episodes `rows`; steps are asked for in order."""
        if step % _DRAWN == 0:
            for row in rows:
                self._drawn[row] = self._generators[row].random(_DRAWN)
        return self._drawn[rows, step % _DRAWN]


@torch.inference_mode()
def play(
    agent: Agent,
    workers: EnvPool,
    tasks: Sequence[Task],
    num_actions: int,
    settings: Settings,
    device: str,
) -> Iterator[Advance]:
    """Play the episodes of `tasks` in the workers' slots to their ends. As they end, the batch shrinks.

    Raises ValueError when the agent's logits are not finite.
    """
    dice = Dice(tasks, settings.seed)
    workers.begin(dict(enumerate(tasks)))
    columns = {name: torch.from_numpy(array) for name, array in workers.observation.items()}
    slots = np.arange(len(tasks))  # of each row of the batch
    first, later = (torch.full((1, len(tasks)), value, device=device) for value in (True, False))
    state = agent.initial_state(len(slots), device)
    previous = torch.full((len(slots),), num_actions, dtype=torch.int64, device=device)
    step = 0
    while len(slots):
        batch = {name: _rows(column, slots).to(device)[None] for name, column in columns.items()}
        batch["prev_action"] = previous[None]
        batch["done"] = (later if step else first)[:, : len(slots)]
        output = agent(batch, state)
        logits = output.logits[0].float()
        if not bool(torch.isfinite(logits).all()):
            raise ValueError(f"the agent's logits are not finite at step {step}: its training has diverged")
        previous = sample_actions(logits, torch.from_numpy(dice.roll(step, slots)).to(device), settings.temperature)
        workers.arrays["action"][slots] = previous.cpu().numpy()
        outcomes = dict(workers.step().ended)
        yield Advance(len(slots), [Episode.of(tasks[slot], outcome) for slot, outcome in outcomes.items()])
        state = output.state
        if outcomes:
            keep = np.flatnonzero([slot not in outcomes for slot in slots])
            slots, rows = slots[keep], torch.from_numpy(keep).to(device)
            previous = previous[rows]
            state = {name: value[rows] for name, value in state.items()}
        step += 1


def _rows(column: Tensor, slots: np.ndarray) -> Tensor:
    """The rows `slots` (ascending) of a column [S, ...] of the slab: the memory itself where they are the first ones.

    The workers write there only once they are told the next actions, which follow from this forward.
    """
    if len(slots) == slots[-1] + 1:
        return column[: len(slots)]
    return column.index_select(0, torch.from_numpy(slots))


def find_device(name: str) -> str:
    """The device of that name; "auto" is CUDA where there is one. ValueError when it is none, or not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r}: not available ({str(error).splitlines()[0]}); use auto, cpu or cuda"
        ) from error
    return name
