"""Analysis of a finished study: its fits, its best game, the details for its report, and its headline figures."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playscale.config import METHODS, setting_text
from playscale.corpus.corpus import Corpus
from playscale.points import Point, Reference
from playscale.report.replay import Replay
from playscale.scaling.fit import Fit
from playscale.scaling.fit import fit as fit_laws
from playscale.scaling.gpu import hardware
from playscale.scaling.methods import EXPERT, MethodFits, expert_bound, fit_methods, fits_of
from playscale.scaling.warning import missing_warning
from playscale.study.kept_games import NoTerminalError, kept_games, replay_of
from playscale.study.spec import StudySpec

PACKAGES = ("playscale", "torch", "nle", "kfp", "mlflow")
NO_POINT = "no run of this method is trained"
REPLAY_FRAMES = 20_000  # about 1 MB of page


def title(spec: StudySpec) -> str:
    """Return the title of the report."""
    names = [METHODS[method].label for method in spec.method]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Study {spec.name}: {listed} in {spec.played or spec.game}"


def fit_study(
    spec: StudySpec, points: Sequence[Point], references: Sequence[Reference], lacks: Mapping[str, str]
) -> MethodFits:
    """Fit the laws of each method, with the forecasts and targets of the spec, and a warning of missing runs.

    Args:
        spec: The study's specification.
        points: Its points.
        references: What its agents are compared with.
        lacks: What planned runs are short of, by name.
    """
    lowest = min((p.return_mean for p in points if p.return_mean is not None), default=0.0)
    played = [(one.name, one.return_mean) for one in references if one.name.startswith(EXPERT)]
    experts = {name: value for name, value in played if value is not None and value > min(lowest, 0)}
    machine = spec.hardware

    def fit_one(method: str, rows: Sequence[Point]) -> Fit:
        bound, targets = expert_bound(method, experts)
        fitted = fit_laws(
            rows,
            spec.forecast,
            expert_return=bound,
            max_return=spec.max_return,
            min_return=spec.min_return,
            target_returns=[*spec.target_returns.items(), *targets],
            hardware=hardware(machine.gpu, machine.utilisation) if machine else None,
            has_returns=spec.evaluate.episodes > 0,
        )
        missing = {name: what for name, what in lacks.items() if name not in runs or runs[name].method == method}
        return replace(fitted, warnings=(*missing_warning(missing), *fitted.warnings))

    runs = spec.runs()
    found = fit_methods(points, fit_one)
    unseen = {runs[name].method for name in lacks if name in runs} - {point.method for point in points}
    return replace(found, failed={**found.failed, **{method: NO_POINT for method in spec.method if method in unseen}})


def best_replays(folder: Path) -> list[Replay]:
    """Return the best game of any agent below `folder`; none if nothing was recorded, or the game has no terminal."""
    played = [(one.play, one) for one in kept_games(folder, str(folder)) if one.point and "best" in one.roles]
    if not played:
        return []
    play, best = max(((play, one) for play, one in played if play), key=lambda pair: pair[0].episode.score)
    who = f"{best.point.get('size', 'agent')} parameters, {float(best.point.get('flops', 0)):.2g} training FLOPs"
    among = f"best of {len(play.evaluation.episodes)} episodes (mean {play.evaluation.return_mean:.1f})"
    try:
        replay = replay_of(best, most=REPLAY_FRAMES)
    except NoTerminalError:
        return []
    title = f"The best game of any agent: {play.episode.score:,.0f} points"
    return [replace(replay, title=title, caption=f"{who}; {among}")]


def study_details(spec: StudySpec, plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the details that a reader needs to run the study again."""
    return {
        **_expert_play(plan),
        **({"task": spec.played} if spec.played else {}),
        "agents": f"{', '.join(spec.method)}, {spec.core} core",
        "sizes": f"{', '.join(spec.sizes)}; seeds {', '.join(map(str, spec.seeds))}",
        "budgets": ", ".join(f"{budget:.3g}" for budget in spec.budgets) + " FLOPs",
        "held-out budgets": ", ".join(f"{budget:.3g}" for budget in spec.held_out) + " FLOPs",
        **_extra_cells(spec),
        **_varied(spec),
        "episodes a point": f"{spec.evaluate.episodes}, at most {spec.evaluate.max_steps:,} actions each"
        if spec.evaluate.episodes
        else "none: only the dev loss is measured",
        "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name)),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def _extra_cells(spec: StudySpec) -> dict[str, str]:
    each = [f"{extra.size} at {', '.join(f'{budget:.3g}' for budget in extra.budgets)} FLOPs" for extra in spec.cells]
    return {"cells beside the grid": "; ".join(each)} if each else {}


def _varied(spec: StudySpec) -> dict[str, str]:
    if spec.vary is None:
        return {}
    values = [f"{name} {', '.join(map(setting_text, given))}" for name, given in spec.vary.settings.items()]
    return {"settings varied": f"{'; '.join(values)} ({spec.vary.design})"}


def _expert_play(plan: Mapping[str, Any]) -> dict[str, str]:
    if plan["corpus"] is None:
        return {}
    bigram = f"dev loss {plan['bigram_dev_loss']:.3f} nats per action"
    return {"corpus": Corpus.open(plan["corpus"]).summary(), "previous-action bigram": bigram}


def headline(fit: Mapping[str, Any]) -> dict[str, float]:
    """Return the exponents, and each held-out measurement with its forecast, by name.

    MLflow's chart page shows the names in two sections, laws/ and held_out/. With several methods, names have the
    method in them.
    """
    fits = fits_of(fit)
    figures: dict[str, float | None] = {}
    for method, one in fits.items():
        whose = f"{method}." if len(fits) > 1 else ""
        for law in one["power_laws"]:
            figures[f"laws/{whose}{law['target']}.{law['quantity']}.{law['at']}"] = law["exponent"]
        for row in one["held_out"]:
            budget = f"{row['flops']:.3g}".replace("+", "")
            for key in ("measured", "value", "low", "high"):
                figures[f"held_out/{whose}{row['target']}.{budget}.{row['params']:.0f}.{key}"] = row[key]
    return {name: value for name, value in figures.items() if value is not None}
