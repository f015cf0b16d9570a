"""The policy: a game's encoder, two fully connected layers, a recurrent core, the policy head.

Shapes: T unroll, B batch, N = T * B samples, A actions, h width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from pydantic import Field, Strict, TypeAdapter, ValidationError
from torch import Tensor, nn

from playscale.agents.layers import he_init
from playscale.agents.lstm import LstmCore, State
from playscale.agents.transformer import TransformerCore
from playscale.config import explain
from playscale.games.game import Game, get_game

CORES = ("lstm", "transformer")
LONGEST_CONTEXT = 1 << 16  # steps; no weight depends on the context, but the state's memory does
Count = Annotated[int, Strict(), Ge(1)]

# The initial outputs of an LSTM are about 0.25, those of a transformer about 1, so the logits start at a spread of
# about 0.7 and 1. With a small gain the LSTM gets too little gradient: after 100,000 samples of AutoAscend the loss of
# a 30k policy was 2.98 with a gain of 0.1 and 1.62 with 1; with another recurrent initialisation, 1.59 with 1 and 1.32
# with 3.
HEAD_GAIN = {"lstm": 3.0, "transformer": 1.0}


@dataclass(frozen=True)
class PolicyConfig:
    """Architecture of a policy.

    Attributes:
        game: Name of the game, with its task.
        size: The requested size, such as "100k".
        core: "lstm" or "transformer".
        num_actions: Number of actions, A.
        width: Width of the core, h.
        layers: Layers of the core.
        encoder: Fields of the game's own encoder widths.
        heads: Attention heads (transformer).
        context: Steps that the transformer attends to, the current one included.
        value_head: Whether there is a value head.
    """

    game: str
    size: Annotated[str, Field(coerce_numbers_to_str=True)]
    core: str
    num_actions: Count
    width: Count
    layers: Count
    encoder: Mapping[str, Any]
    heads: Count = 1
    context: Annotated[Count, Le(LONGEST_CONTEXT)] = 1
    value_head: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PolicyConfig:
        """Build the config from JSON values; ValueError for a missing or unknown key, or a value that cannot be."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"policy config: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
        try:
            config = TypeAdapter(cls).validate_python(dict(values))
        except ValidationError as error:
            raise ValueError(f"policy config: {explain(error)}") from error
        if config.core == "transformer" and config.width % (2 * config.heads):
            raise ValueError(f"policy config: {config.heads} heads do not divide a width of {config.width} evenly")
        return config


class PolicyOutput(NamedTuple):
    """Output of an unroll: logits [T, B, A]; value [T, B], None without a value head; the state after it, detached."""

    logits: Tensor
    value: Tensor | None
    state: State


class Policy(nn.Module):
    """Map unrolls of observations to unrolls of action logits.

    Weights are initialised from torch's global generator.

    Attributes:
        config: Its architecture.
        columns: Names of the observation columns that it reads.
    """

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
        """Return the state before a game, tensors [B, ...] by name, on `device` (default: that of the policy)."""
        return self.core.initial_state(batch, device or self.head.weight.device)

    def forward(self, batch: Mapping[str, Tensor], state: State, resets: Sequence[int] | None = None) -> PolicyOutput:
        """Run the policy over an unroll.

        Args:
            batch: The game's columns [T, B, ...], prev_action i64 [T, B] (A: none) and done bool [T, B]: done[t, b]
                resets the state of column b before step t. Other keys are ignored.
            state: The state before the unroll, as `initial_state` or the last output gives it.
            resets: The steps with a reset in any column, for a caller that knows them; by default they are read from
                `done`, which waits for the device.

        Returns:
            Logits [T, B, A], values [T, B] or None, and the detached state after the unroll.
        """
        done = batch["done"]
        observation = {name: batch[name].flatten(0, 1) for name in self.columns}
        x = self.features(observation, batch["prev_action"].flatten()).unflatten(0, done.shape)
        y, state = self.core(x, done, state, resets)
        value = None if self.value is None else self.value(y).squeeze(2)
        return PolicyOutput(self.head(y), value, state)

    def features(self, observation: dict[str, Tensor], prev_action: Tensor) -> Tensor:
        """Return the input of the core for each sample, [N, h]: everything before it treats samples alone."""
        return F.relu(self.fc2(F.relu(self.fc1(self.encoder(observation, prev_action)))))


def make_encoder(config: PolicyConfig) -> nn.Module:
    """Build the game's encoder; ValueError when the widths are not the game's."""
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


def restrict(policy: Policy, game: Game, value_head: bool = False) -> Policy:
    """Return a policy of a task that has fewer actions than the policy's game.

    Its distribution is the old one's over the actions of the task, renormalised. Actions are matched by name. The
    policy head and the previous-action table keep the rows of the task's actions and the row for "no action yet".

    Args:
        policy: The policy to restrict; nothing is shared with it.
        game: The task to play.
        value_head: Add a value head if there is none, initialised from torch's global generator, which is otherwise
            not used. An existing one is kept.

    Returns:
        The new policy, on the device and in the mode (train or eval) of `policy`.

    Raises:
        ValueError: The policy lacks an action of the task, or the columns of the games differ.
    """
    source = get_game(policy.config.game)
    if dict(game.columns) != dict(source.columns):
        raise ValueError(f"an agent of {source.name} cannot play {game.name}: it does not see the same columns")
    missing = [name for name in game.actions if name not in source.actions]
    if missing:
        raise ValueError(f"an agent of {source.name} cannot play {game.name}: it has no action {missing[0]!r}")
    config = restrict_config(policy.config, game, value_head)
    with torch.random.fork_rng(devices=[], enabled=config.value_head == policy.config.value_head):
        restricted = Policy(config)
    restricted.load_state_dict(restricted.state_dict() | _rows(policy, [source.actions.index(a) for a in game.actions]))
    return restricted.to(policy.head.weight.device).train(policy.training)


def restrict_config(config: PolicyConfig, game: Game, value_head: bool = False) -> PolicyConfig:
    """Return the config of the policy that `restrict` makes of one with this config."""
    return replace(config, game=game.name, num_actions=game.num_actions, value_head=config.value_head or value_head)


def _rows(policy: Policy, actions: list[int]) -> dict[str, Tensor]:
    """Return the weights; of what has one row per action, the rows of `actions` (and the last row of the table)."""
    table = policy.encoder.previous_action
    assert isinstance(table, nn.Parameter)
    rows = {
        id(policy.head.weight): actions,
        id(policy.head.bias): actions,
        id(table): [*actions, policy.config.num_actions],
    }
    weights = policy.state_dict(keep_vars=True)  # the parameters themselves, so that ids match
    return {name: tensor[rows[id(tensor)]] if id(tensor) in rows else tensor for name, tensor in weights.items()}
