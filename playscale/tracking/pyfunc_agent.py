"""An agent as MLflow's python_function. The MLmodel file of a checkpoint names this module, whose loader MLflow calls.

MLflow 3.17 calls `_load_pyfunc` with the directory of the checkpoint, and `predict` with the parameters that the file
declares. docs/monitoring.md shows it in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from playscale.agents.checkpoint import load_policy
from playscale.agents.policy import Policy
from playscale.games.game import get_game
from playscale.rollout.agent import sample_actions

STATE = "state."  # begins the names of the arrays of the recurrent state
Arrays = dict[str, np.ndarray]


class ServedAgent:
    """An agent that plays B games side by side, one action at a time. It keeps nothing between two calls."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.game = get_game(policy.config.game)

    @torch.inference_mode()
    def predict(self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Arrays:
        """Return the next action of each game.

        Args:
            model_input: Arrays by name. Observations: the game's columns, each [B, ...]. `state.NAME` [B, ...] and
                `prev_action` [B]: those of the last output, none at the beginning of the games. `done` bool [B]: games
                that begin with this observation.
            params: `temperature` of the softmax that actions are drawn from, 1 by default as in a study's
                evaluation; 0 takes the most likely action. `seed` of the draw, by default another one each time.

        Returns:
            `action` i64 [B], an index into the game's actions; `prev_action`, the same; `logits` f32 [B, A];
            `state.NAME`, the state after the observation.

        Raises:
            ValueError: A column is missing, or an array has a wrong shape.
        """
        given = {"temperature": 1.0, "seed": None, **(params or {})}
        output = self.policy(*self._inputs(model_input))
        logits = output.logits[0].float()
        uniforms = torch.from_numpy(np.random.default_rng(given["seed"]).random(len(logits)))
        action = sample_actions(logits, uniforms, float(given["temperature"])).numpy()
        state = {STATE + name: value.numpy() for name, value in output.state.items()}
        return {"action": action, "prev_action": action, "logits": logits.numpy(), **state}

    def _inputs(self, given: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the batch [1, B, ...] and the state [B, ...] that the policy takes."""
        columns, size = self.game.columns, len(next(iter(given.values()), ()))
        if missing := [name for name in columns if name not in given]:
            raise ValueError(f"an agent of {self.game.name} sees {', '.join(columns)}: {', '.join(missing)} is missing")
        initial = self.policy.initial_state(size)
        begins = STATE + next(iter(initial)) not in given
        arrays = {
            name: _array(given[name], name, (size, *column.shape), column.dtype) for name, column in columns.items()
        }
        previous = given.get("prev_action", np.full(size, self.game.num_actions))
        arrays["prev_action"] = _array(previous, "prev_action", (size,), "int64")
        arrays["done"] = _array(given.get("done", np.full(size, begins)), "done", (size,), "bool")
        batch = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
        if begins:
            return batch, initial
        return batch, {name: _state(given, name, like) for name, like in initial.items()}


def _state(given: Mapping[str, Any], name: str, like: torch.Tensor) -> torch.Tensor:
    array = _array(given.get(STATE + name, ()), STATE + name, tuple(like.shape), "float32")
    return torch.from_numpy(array).to(like.dtype)


def _array(value: Any, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    array = np.array(value, dtype=dtype)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}; expected is {shape}")
    return array


def _load_pyfunc(path: str) -> ServedAgent:
    """Load the checkpoint in a directory, as MLflow asks for it."""
    return ServedAgent(load_policy(Path(path))[0])
