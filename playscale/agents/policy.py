"""The policy: a game's encoder, two fully connected layers, a recurrent core, the policy head.

Shapes: T unroll, B batch, N = T * B samples, A actions, h width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playscale.agents.layers import he_init
from playscale.agents.lstm import LstmCore, State
from playscale.agents.transformer import TransformerCore
from playscale.games.game import get_game

CORES = ("lstm", "transformer")

# An LSTM's outputs are about 0.25 at first, a transformer's 1, so the logits start at a spread of about 0.7 and 1.
# A weak head starves the LSTM of gradient: a 30k policy cloning AutoAscend was after 100,000 samples at a loss of 2.98
# with a gain of 0.1 and of 1.62 with 1; from another recurrent start, 1.59 with 1 and 1.32 with 3.
HEAD_GAIN = {"lstm": 3.0, "transformer": 1.0}


@dataclass(frozen=True)
class PolicyConfig:
    """What a policy is made of. `encoder` holds the fields of the game's own widths; `context` counts steps."""

    game: str
    size: str
    core: str
    num_actions: int
    width: int
    layers: int
    encoder: Mapping[str, Any]
    heads: int = 1
    context: int = 1
    value_head: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PolicyConfig:
        """ValueError for a missing or unknown key."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"policy config: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"policy config: {error}") from error


class PolicyOutput(NamedTuple):
    """logits [T, B, A]; value [T, B], None without a value head; the state after the unroll, detached."""

    logits: Tensor
    value: Tensor | None
    state: State


class Policy(nn.Module):
    """Maps unrolls of observations to unrolls of action logits. Weights are drawn from torch's global generator."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.columns = tuple(get_game(config.game).columns)
        self.encoder = make_encoder(config)
        self.fc1 = nn.Linear(int(self.encoder.out_features), config.width)  # type: ignore[arg-type]
        self.fc2 = nn.Linear(config.width, config.width)
        self.core = make_core(config)
        self.head = nn.Linear(config.width, config.num_actions)
        self.value = nn.Linear(config.width, 1) if config.value_head else None
        he_init(self.fc1)
        he_init(self.fc2)
        he_init(self.head, gain=HEAD_GAIN[config.core])
        if self.value is not None:
            he_init(self.value, gain=0.1)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        """The state before a game, every tensor [B, ...]; on the policy's own device when none is named."""
        return self.core.initial_state(batch, device or self.head.weight.device)

    def forward(self, batch: Mapping[str, Tensor], state: State, resets: Sequence[int] | None = None) -> PolicyOutput:
        """`batch`: the game's columns [T, B, ...], prev_action i64 [T, B], done bool [T, B].

        done[t, b] resets column b before step t. Other keys are ignored. `resets`: the steps with any such reset, for a
        caller that knows them without asking the device.
        """
        done = batch["done"]
        observation = {name: batch[name].flatten(0, 1) for name in self.columns}
        x = self.features(observation, batch["prev_action"].flatten()).unflatten(0, done.shape)
        y, state = self.core(x, done, state, resets)
        value = None if self.value is None else self.value(y).squeeze(2)
        return PolicyOutput(self.head(y), value, state)

    def features(self, observation: dict[str, Tensor], prev_action: Tensor) -> Tensor:
        """What the core sees of each sample [N, h]: everything before it, which knows no time."""
        return F.relu(self.fc2(F.relu(self.fc1(self.encoder(observation, prev_action)))))


def make_encoder(config: PolicyConfig) -> nn.Module:
    """The game's encoder; ValueError when the widths are not the game's."""
    game = get_game(config.game)
    try:
        widths = replace(game.encoder_widths(1.0), **config.encoder)
    except TypeError as error:
        raise ValueError(f"encoder widths of {config.game}: {error}") from error
    return game.make_encoder(widths)


def make_core(config: PolicyConfig) -> LstmCore | TransformerCore:
    if config.core == "lstm":
        return LstmCore(config.width, config.layers)
    if config.core == "transformer":
        return TransformerCore(config.width, config.layers, config.heads, config.context)
    raise ValueError(f"unknown core {config.core!r}: known are {', '.join(CORES)}")


def build_policy(config: PolicyConfig, device: torch.device | str | None = None) -> Policy:
    return Policy(config).to(device)
