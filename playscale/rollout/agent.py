"""Play episodes with an agent: N episodes in lockstep, one batched forward a step, actions sampled per episode.

Shapes: T = 1 step, N running episodes, A actions.

An episode's actions depend on the agent and the settings alone, never on time or on the number of workers: the same
episodes always share their forwards, in the same rows, and each draws from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import Advance, Episode, EpisodeSpec
from playscale.rollout.evaluation import EvalSettings

_BLOCK = 1024  # uniforms drawn at once for an episode: a call per step would cost more than the draw

State = dict[str, Tensor]


class Output(Protocol):
    @property
    def logits(self) -> Tensor: ...
    @property
    def state(self) -> Any: ...


class Agent(Protocol):
    """The part of agents.policy.Policy that playing needs; shapes as there."""

    def initial_state(self, batch: int, device: str | None = None) -> State: ...
    def __call__(self, batch: dict[str, Tensor], state: State) -> Output: ...


def sample_actions(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """Sample actions [N] from softmax(logits / temperature), logits [N, A].

    Inverts the distribution function at `uniforms` [N] in [0, 1), in float64 so that rare actions keep their
    probability. Temperature 0 takes the most likely action.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    below = cumulative <= uniforms[:, None] * cumulative[:, -1:]
    return below.sum(-1).clamp(max=logits.shape[-1] - 1)


class EpisodeUniforms:
    """A stream of uniform random numbers for every episode, fixed by (seed of the evaluation, index of the episode)."""

    def __init__(self, specs: Sequence[EpisodeSpec], seed: int) -> None:
        self._generators = [np.random.Generator(np.random.Philox(key=[seed, spec.index])) for spec in specs]
        self._drawn = np.empty((len(specs), _BLOCK))

    def draw(self, step: int, rows: np.ndarray) -> np.ndarray:
        """Return the uniforms [N] of step `step` for the episodes `rows`; call it for every step, in order."""
        if step % _BLOCK == 0:
            for row in rows:
                self._drawn[row] = self._generators[row].random(_BLOCK)
        return self._drawn[rows, step % _BLOCK]


@torch.inference_mode()
def play(
    agent: Agent,
    env_pool: EnvPool,
    specs: Sequence[EpisodeSpec],
    num_actions: int,
    settings: EvalSettings,
    device: str,
) -> Iterator[Advance]:
    """Play these episodes in the slots of the pool to their ends. As episodes end, the batch shrinks.

    Yields:
        After each step, the episodes that ended with it.

    Raises:
        ValueError: The agent's logits are not finite.
    """
    uniforms = EpisodeUniforms(specs, settings.seed)
    env_pool.begin(dict(enumerate(specs)))
    columns = {name: torch.from_numpy(array) for name, array in env_pool.observation.items()}
    slots = np.arange(len(specs))  # of each row of the batch
    first, later = (torch.full((1, len(specs)), value, device=device) for value in (True, False))
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
        drawn = torch.from_numpy(uniforms.draw(step, slots)).to(device)
        previous = sample_actions(logits, drawn, settings.temperature)
        env_pool.arrays["action"][slots] = previous.cpu().numpy()
        outcomes = dict(env_pool.step().ended)
        yield Advance(len(slots), [Episode.of(specs[slot], outcome) for slot, outcome in outcomes.items()])
        state = output.state
        if outcomes:
            keep = np.flatnonzero([slot not in outcomes for slot in slots])
            slots, rows = slots[keep], torch.from_numpy(keep).to(device)
            previous = previous[rows]
            state = {name: value[rows] for name, value in state.items()}
        step += 1


def _rows(column: Tensor, slots: np.ndarray) -> Tensor:
    """Return the rows `slots` (ascending) of a shared column [S, ...]: the memory itself where they are the first ones.

    The workers write there only when they have the next actions, which follow from this forward.
    """
    if len(slots) == slots[-1] + 1:
        return column[: len(slots)]
    return column.index_select(0, torch.from_numpy(slots))
