"""What a study's report shows beside the fits: its best game, its details, its headline figures."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from playscale.corpus.corpus import Corpus
from playscale.games.game import get_game
from playscale.report.replay import Replay
from playscale.rollout.evaluation import read_evaluation
from playscale.study import StudySpec

REPLAY_BLOCK = 1024
REPLAY_FRAMES = 20_000  # about 1 MB of page


def best_replays(game_name: str, folder: Path) -> list[Replay]:
    """The best game of any agent below `folder`, as a replay; none when nothing was recorded."""
    evaluations = [(read_evaluation(path), path.parent) for path in sorted(folder.glob("*/*/evaluation.json"))]
    recorded = [
        (max(e.returns), e, place) for e, place in evaluations if e.point is not None and "best" in e.recordings
    ]
    if not recorded:
        return []
    best_return, evaluation, place = max(recorded, key=lambda item: item[0])
    game = get_game(game_name)
    (recording,), _ = game.find_recordings(place / evaluation.recordings["best"])
    blocks = list(game.decode(recording, REPLAY_BLOCK))
    frames = {name: np.concatenate([block[name] for block in blocks])[:REPLAY_FRAMES] for name in blocks[0]}
    point = evaluation.point or {}
    who = f"{point.get('size', 'agent')} parameters, {float(point.get('flops', 0)):.2g} training FLOPs"
    return [
        Replay(
            title=f"The best game of any agent: {best_return:,.0f} points",
            caption=f"{who}; best of {len(evaluation.episodes)} episodes (mean {evaluation.return_mean:.1f})",
            chars=frames["tty_chars"],
            colors=frames["tty_colors"],
            cursor=frames["tty_cursor"],
            score=frames["score"],
        )
    ]


def study_details(spec: StudySpec, plan: Mapping[str, Any]) -> dict[str, str]:
    """What a reader needs to run the study again."""
    return {
        "corpus": Corpus.open(plan["corpus"]).summary(),
        "previous-action bigram": f"dev loss {plan['bigram_dev_loss']:.3f} nats per action",
        "agents": f"{spec.method}, {spec.core} core, sizes {', '.join(spec.sizes)}, seeds {list(spec.seeds)}",
        "budgets": ", ".join(f"{budget:.3g}" for budget in spec.budgets) + " FLOPs",
        "held-out budgets": ", ".join(f"{budget:.3g}" for budget in spec.held_out) + " FLOPs",
        "episodes a point": f"{spec.evaluate.episodes}, at most {spec.evaluate.max_steps:,} actions each",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("playscale", "torch", "nle", "kfp", "mlflow")),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def headline(fit: Mapping[str, Any]) -> dict[str, float]:
    """The exponents, and each held-out measurement beside its forecast, as single figures.

    Named so that MLflow's chart page shows them in two sections, laws/ and held_out/.
    """
    figures: dict[str, float | None] = {}
    for law in fit["power_laws"]:
        figures[f"laws/{law['target']}.{law['quantity']}.{law['at']}"] = law["exponent"]
    for row in fit["held_out"]:
        budget = f"{row['flops']:.3g}".replace("+", "")
        for key in ("measured", "value", "low", "high"):
            figures[f"held_out/{row['target']}.{budget}.{row['params']:.0f}.{key}"] = row[key]
    return {name: value for name, value in figures.items() if value is not None}
