"""An agent of one game in a task of it that knows fewer actions.

The new policy acts as the old one would if it were told which actions there are: its distribution is the old one's over
the actions of the task, renormalised. An action is known by its name.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from playscale.agents.policy import Policy, PolicyConfig
from playscale.games.game import Game, get_game


def restrict(policy: Policy, game: Game, value_head: bool = False) -> Policy:
    """A new policy of `game`, on the device and in the mode of `policy`, with which it shares nothing.

    Of the policy head and the previous-action table the rows of the game's actions are taken, and the row for "no
    action yet". `value_head` adds one where there is none, drawn as a new policy's from torch's global generator (which
    is left alone otherwise); one that is there stays. ValueError when the policy lacks an action of the game, or the
    games' columns differ.
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
    """That of the policy which `restrict` makes of one with this config."""
    return replace(config, game=game.name, num_actions=game.num_actions, value_head=config.value_head or value_head)


def _rows(policy: Policy, actions: list[int]) -> dict[str, Tensor]:
    """The policy's weights; of what has a row for each action, those of `actions` (and the last row of the table)."""
    table = policy.encoder.previous_action
    assert isinstance(table, nn.Parameter)
    chosen = {
        id(policy.head.weight): actions,
        id(policy.head.bias): actions,
        id(table): [*actions, policy.config.num_actions],
    }
    weights = policy.state_dict(keep_vars=True)  # the parameters themselves, not tensors beside them
    return {name: tensor[chosen[id(tensor)]] if id(tensor) in chosen else tensor for name, tensor in weights.items()}
