"""The frozen teacher of a kickstarted run, limited to the task's actions.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from playscale.agents.policy import Policy
from playscale.training.batches import Batch
from playscale.training.optimization import autocast


class Teacher:
    """What the teacher would do in the learner's unrolls; it remembers each actor's games from unroll to unroll."""

    def __init__(self, policy: Policy, device: torch.device, precision: str) -> None:
        self._policy = policy.to(device).eval()
        self._device, self._precision = device, precision
        self._states: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def logits(self, batch: Batch, actor: int) -> Tensor:
        """[T, B, A] for all frames of the actor's next unroll but the last, which is the first of the one after it."""
        frames = {name: value[:-1] for name, value in batch.tensors.items()}
        steps, columns = frames["done"].shape
        state = self._states.get(actor) or self._policy.initial_state(columns, self._device)
        with autocast(self._device, self._precision):
            output = self._policy(frames, state, [step for step in batch.resets if step < steps])
        self._states[actor] = output.state
        return output.logits.float()
