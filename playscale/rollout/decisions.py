"""Read again from a recording what its agent expected: the probabilities of its actions and its value.

The policy is shown the recorded observations and actions, with its recurrent state carried from step to step, so that
it is at each step in the state in which it was when it played. T steps, A actions, K of them kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from playscale.agents.policy import Policy

KEPT = 5  # actions of a step that are kept
CHUNK = 256  # steps of a forward pass


@dataclass(frozen=True)
class Decisions:
    """An agent's expectations at each step of a game.

    likely u16 [K,T], the most likely actions, the most likely first; probability f32 [K,T] of these; taken f32 [T],
    probability of the action taken; value f32 [T], None without a value head.
    """

    likely: NDArray[np.uint16]
    probability: NDArray[np.float32]
    taken: NDArray[np.float32]
    value: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.taken)


class DecisionReader:
    """Reads the decisions of one game from its blocks of transitions.

    Args:
        policy: The policy that played, in eval mode.
        temperature: Of the softmax that its actions were sampled from; 0 (the most likely action) is read as 1.
    """

    def __init__(self, policy: Policy, temperature: float) -> None:
        self._policy, self._temperature = policy, temperature or 1.0
        self._state = policy.initial_state(1)
        self._previous: int | None = None
        self._parts: list[list[NDArray]] = []

    def read(self, block: Mapping[str, NDArray]) -> None:
        """Take the next transitions, columns and `action` i64 [t], as Game.decode yields them.

        ValueError: the agent's logits are not finite.
        """
        for start in range(0, len(block["action"]), CHUNK):
            self._forward({name: array[start : start + CHUNK] for name, array in block.items()})

    def _forward(self, chunk: Mapping[str, NDArray]) -> None:
        import torch

        policy, steps = self._policy, len(chunk["action"])
        device = policy.head.weight.device
        first = policy.config.num_actions if self._previous is None else self._previous
        done = np.zeros(steps, bool)
        done[0] = self._previous is None
        given = {name: np.ascontiguousarray(chunk[name]) for name in policy.columns}
        given |= {"prev_action": np.concatenate(([first], chunk["action"][:-1])), "done": done}
        with torch.inference_mode():
            batch = {name: torch.from_numpy(array).to(device)[:, None] for name, array in given.items()}
            output = policy(batch, self._state)
            probabilities = (output.logits[:, 0].double() / self._temperature).softmax(-1)
            if not bool(torch.isfinite(probabilities).all()):
                raise ValueError("the agent's logits are not finite: its training has diverged")
            top = probabilities.topk(min(KEPT, policy.config.num_actions))
            taken = probabilities.gather(1, torch.from_numpy(chunk["action"]).to(device)[:, None])[:, 0]
            part = [top.indices.T, top.values.T, taken]
            part += [] if output.value is None else [output.value[:, 0]]
            self._parts.append([tensor.cpu().numpy() for tensor in part])
        self._state, self._previous = output.state, int(chunk["action"][-1])

    def decisions(self) -> Decisions:
        """Return those of all transitions read; there must be one."""
        arrays = [np.concatenate(parts, axis=-1) for parts in zip(*self._parts, strict=True)]
        value = arrays[3].astype(np.float32) if len(arrays) > 3 else None
        return Decisions(arrays[0].astype(np.uint16), arrays[1].astype(np.float32), arrays[2].astype(np.float32), value)
