"""Score and speed of a game's scripted expert, beside a player that presses keys at random.

    python -m benchmarks.expert --seeds 0:100 --max-steps 10000 [--random] [--workers 2]

Speed is steps/s of one process, environment included.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from playscale.games.game import get_game

MARKS = (500, 1_000, 2_000, 5_000)  # steps at which the score so far is quoted


@dataclass(frozen=True)
class GameResult:
    """One game: its outcome, the score at each of MARKS, and the seconds of processor time it took."""

    seed: int
    score: float
    steps: int
    terminated: bool
    at: tuple[int, ...]
    seconds: float
    metadata: dict[str, object]


def play(seed: int, game_name: str, max_steps: int, at_random: bool) -> GameResult:
    game = get_game(game_name)
    env, player, generator = game.make_env(max_steps), game.make_expert(), np.random.default_rng(seed)
    observation = env.reset(seed)
    player.reset(seed)
    scores = [0]
    start = time.process_time()
    while True:
        action = int(generator.integers(game.num_actions)) if at_random else player.act(observation)
        step = env.step(action)
        observation = step.observation
        scores.append(step.score)
        if step.done:
            break
    seconds = time.process_time() - start
    outcome = env.outcome()
    at = tuple(scores[min(mark, len(scores) - 1)] for mark in MARKS)
    return GameResult(seed, outcome.score, outcome.steps, outcome.terminated, at, seconds, dict(outcome.metadata))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="nethack")
    parser.add_argument("--seeds", default="0:100", help="first:end")
    parser.add_argument("--max-steps", type=int, default=10_000)
    parser.add_argument("--random", action="store_true", help="keys at random instead of the expert")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--games", action="store_true", help="print every game as a line of JSON")
    options = parser.parse_args()
    first, end = map(int, options.seeds.split(":"))
    one = partial(play, game_name=options.game, max_steps=options.max_steps, at_random=options.random)
    with ProcessPoolExecutor(options.workers) as pool:
        games = list(pool.map(one, range(first, end)))
    if options.games:
        for game in games:
            print(json.dumps(asdict(game)))
    scores = np.array([game.score for game in games])
    steps = sum(game.steps for game in games)
    seconds = sum(game.seconds for game in games)
    error = scores.std(ddof=1) / len(scores) ** 0.5 if len(scores) > 1 else float("nan")
    name = "random" if options.random else "expert"
    print(f"{name}: {len(games)} games, seeds {options.seeds}, at most {options.max_steps} steps")
    print(f"score: mean {scores.mean():.1f}, standard error {error:.1f}, median {np.median(scores):.0f}")
    marks = ", ".join(f"{np.mean([game.at[i] for game in games]):.0f} at {mark}" for i, mark in enumerate(MARKS))
    print(f"mean score so far: {marks} steps; {steps / len(games):.0f} steps a game; {steps / seconds:.0f} steps/s")


if __name__ == "__main__":
    main()
