"""Recall: the smallest game that needs memory, for tests that train. Register it with `register(monkeypatch)`.

Its twin for tests that need known values and planted faults is counting_game.py; they stay two, since a game whose best
policy must be learned from what the player remembers cannot have a score and a length that a test reads off its seed.

A round shows a cue (1..4), then nothing for 2 to 5 steps, then a question: naming the cue (action cue - 1) scores a
point. At any other time the right action is WAIT. A game has ROUNDS rounds. A player without memory guesses one of four
at each question; a perfect one never errs and scores ROUNDS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from playscale.games.game import (
    GAMES,
    Column,
    Env,
    Game,
    Observation,
    Outcome,
    Player,
    Recording,
    Rejected,
    Step,
    TerminalFrames,
)

CUES = 4
WAIT = 4
BLANK, QUESTION = 0, 5
ROUNDS = 20


def screens(seed: int) -> list[tuple[int, int]]:
    """Every step of the game of that seed: (symbol shown, right action)."""
    rng = np.random.default_rng(seed)
    game = []
    for cue in rng.integers(1, CUES + 1, ROUNDS).tolist():
        game += [(cue, WAIT)] + [(BLANK, WAIT)] * int(rng.integers(1, 4)) + [(QUESTION, cue - 1)]
    return game


class RecallEnv:
    """Leaves `recall-<seed>.json` in `record_dir` for each game that ended, with its actions.

    `error`: the planted exception that its first step raises.
    """

    def __init__(
        self,
        max_steps: int,
        record_dir: Path | None,
        into: Observation | None = None,
        error: type[Exception] | None = None,
    ) -> None:
        self.max_steps, self.record_dir, self.into, self.error = max_steps, record_dir, into, error

    def reset(self, seed: int) -> Observation:
        self.seed, self.actions, self.score = seed, [], 0
        self.screens = screens(seed)
        return self._observation()

    def step(self, action: int) -> Step:
        if self.error:
            raise self.error("planted")
        symbol, right = self.screens[len(self.actions)]
        self.score += symbol == QUESTION and action == right
        self.actions.append(int(action))
        terminated = len(self.actions) == len(self.screens)
        truncated = not terminated and len(self.actions) == self.max_steps
        if (terminated or truncated) and self.record_dir is not None:
            self._record(self.record_dir)
        return Step(self._observation(), int(self.score), terminated, truncated)

    def outcome(self) -> Outcome:
        terminated = len(self.actions) == len(self.screens)
        return Outcome(float(self.score), len(self.actions), terminated, {"seed": self.seed})

    def close(self) -> None:
        pass

    def _observation(self) -> Observation:
        step = min(len(self.actions), len(self.screens) - 1)
        observation = {"symbol": np.empty(1, np.uint8)} if self.into is None else self.into
        observation["symbol"][0] = self.screens[step][0]
        return observation

    def _record(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        record = {"seed": self.seed, "actions": self.actions}
        (folder / f"recall-{self.seed:06d}.json").write_text(json.dumps(record))


class RecallExpert:
    """Remembers the cue."""

    def reset(self, seed: int) -> None:
        self.cue = 0

    def act(self, observation: Observation) -> int:
        symbol = int(observation["symbol"][0])
        if symbol == QUESTION:
            return self.cue - 1
        if symbol != BLANK:
            self.cue = symbol
        return WAIT


@dataclass(frozen=True)
class RecallWidths:
    symbol: int
    action: int
    hidden: int


class RecallEncoder(nn.Module):
    """Embeddings of symbol and previous action, and one layer over them."""

    def __init__(self, widths: RecallWidths, num_actions: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(QUESTION + 1, widths.symbol)
        self.action = nn.Embedding(num_actions + 1, widths.action)
        self.hidden = nn.Linear(widths.symbol + widths.action, widths.hidden)
        self.out_features = widths.hidden

    @property
    def previous_action(self) -> nn.Parameter:
        return self.action.weight

    def forward(self, obs: dict[str, Tensor], prev_action: Tensor) -> Tensor:
        """symbol u8 [N, 1], prev_action i64 [N]: features [N, hidden]."""
        embedded = (self.symbol(obs["symbol"][:, 0].int()), self.action(prev_action))
        return torch.relu(self.hidden(torch.cat(embedded, 1)))

    def params(self) -> dict[str, int]:
        return {
            "embeddings": self.symbol.weight.numel() + self.action.weight.numel(),
            "hidden": self.hidden.weight.numel() + self.hidden.bias.numel(),
        }

    def flops(self) -> dict[str, int]:
        return {"embeddings": 0, "hidden": 2 * self.hidden.weight.numel()}


class Recall:
    name = "recall"
    error: ClassVar[type[Exception] | None] = None
    actions = (*(f"answer {cue}" for cue in range(1, CUES + 1)), "wait")
    num_actions = len(actions)
    default_task = None
    columns: ClassVar = {"symbol": Column((1,), "uint8")}

    def task(self, text: str) -> Game:
        raise ValueError(f"recall has no tasks, so no {text!r}")

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        return RecallEnv(max_steps, record_dir, into, self.error)

    def make_expert(self) -> Player:
        return RecallExpert()

    def find_recordings(self, source: Path) -> tuple[list[Recording], list[Rejected]]:
        recordings = [
            Recording(path.stem, (path,), {"seed": int(path.stem.removeprefix("recall-"))})
            for path in sorted(source.rglob("recall-*.json"))
        ]
        if not recordings:
            raise ValueError(f"{source}: no recordings of recall in it")
        return recordings, []

    def decode(self, recording: Recording, block: int) -> Iterator[dict[str, np.ndarray]]:
        try:
            record = json.loads(recording.paths[0].read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg})") from error
        rows = screens(record["seed"])[: len(record["actions"])]
        symbol, right = np.array(rows).T
        action = np.array(record["actions"], np.int64)
        after = np.cumsum((symbol == QUESTION) & (action == right)).astype(np.int32)
        score = np.concatenate(([0], after[:-1])).astype(np.int32)
        for i in range(0, len(rows), block):
            part = slice(i, i + block)
            yield {"symbol": symbol[part, None].astype(np.uint8), "action": action[part], "score": score[part]}

    def terminal(self, observations: Observation) -> TerminalFrames:
        """The symbol in the middle of the screen; the cursor stands on it, and the depth is 1."""
        steps = len(observations["symbol"])
        chars = np.full((steps, 24, 80), ord(" "), np.uint8)
        chars[:, 12, 40] = ord("0") + observations["symbol"][:, 0]
        cursor = np.tile(np.array([12, 40], np.int16), (steps, 1))
        return TerminalFrames(chars, np.full(chars.shape, 7, np.int8), cursor, np.ones(steps, np.uint8))

    def encoder_widths(self, scale: float) -> RecallWidths:
        wide = max(2, round(64 * scale))
        return RecallWidths(symbol=wide, action=max(2, wide // 2), hidden=2 * wide)

    def make_encoder(self, widths: Any) -> nn.Module:
        return RecallEncoder(widths, self.num_actions)


class RecallWithBug(Recall):
    name = "recall-bug"
    error = ZeroDivisionError


class RecallWithUserError(Recall):
    name = "recall-user-error"
    error = ValueError


def register(monkeypatch) -> None:
    """Make `get_game` know "recall" and its two failing variants for the length of a test."""
    for game in (Recall, RecallWithBug, RecallWithUserError):
        monkeypatch.setitem(GAMES, game.name, f"toy_game:{game.__name__}")


def python_path(folder: Path) -> str:
    """PYTHONPATH of processes that know the game: each imports the `sitecustomize` of `folder` when it starts."""
    (folder / "sitecustomize.py").write_text(
        "from playscale.games.game import GAMES\nGAMES['recall'] = 'toy_game:Recall'\n"
    )
    here = [str(folder), str(Path(__file__).parent)]
    return os.pathsep.join([*here, *filter(None, [os.environ.get("PYTHONPATH")])])


def record_games(folder: Path, games: int) -> Path:
    """Let the expert play the games of seeds 0, 1, ...; their recordings lie in `folder`."""
    env, expert = RecallEnv(10_000, folder), RecallExpert()
    for seed in range(games):
        observation, done = env.reset(seed), False
        expert.reset(seed)
        while not done:
            step = env.step(expert.act(observation))
            observation, done = step.observation, step.done
    return folder
