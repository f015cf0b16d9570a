"""A study before it runs: its grid with the cost of every cell, what to expect of it, and warnings.

The document that `preview` returns is what `playscale study plan` shows, and with --json prints.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from playscale.config import IMITATING_METHODS, METHODS, TrainConfig, budget_name
from playscale.corpus.corpus import Corpus
from playscale.processes.cores import usable_cores
from playscale.rollout.evaluation import read_evaluation
from playscale.scaling import numbers
from playscale.scaling.gpu import Hardware
from playscale.scaling.prior import NETHACK, REFERENCE, Prior, prior_of
from playscale.study.costs import CellCost, GpuPace, ModelCost, Pace, cell_costs, model_cost, pace_settings, total
from playscale.study.local_run import AT_ONCE
from playscale.study.plan import PlannedCell, plan_study
from playscale.study.spec import StudySpec

MOST_EPOCHS = 4
"""Passes over the data up to which repeated samples are worth nearly as much as new ones (Muennighoff et al., arXiv
2305.16264)."""
FEWEST_STEPS = 200
LARGEST_ERROR = 0.1  # standard error of a return, over it
SHORTEST_STEP = 1e-3
"""Seconds of an optimizer step on a GPU below which it cannot be: it starts hundreds of kernels, each of which takes a
few microseconds to start."""
TRAIN_SHARE = 0.9  # of the games in a corpus


@dataclass(frozen=True)
class ExpectedPlay:
    """Expert play that a corpus has, or is expected to have.

    Attributes:
        uri: The corpus, or the source that it will be made of.
        game: Its game.
        train: Transitions of its train split.
        basis: corpus, at most (games times their limit), or estimated (from a few games).
    """

    uri: str
    game: str
    train: float
    basis: str

    def transitions(self, split: str) -> float:
        return self.train if split == "train" else self.train * (1 - TRAIN_SHARE) / TRAIN_SHARE


@dataclass(frozen=True)
class AgentPlay:
    """The agents' episodes as known before they are played.

    Attributes:
        length: Mean actions of an episode, at most the study's limit; None where no earlier episodes tell.
        scatter: Standard deviation of an agent's returns over their mean.
        source: What tells them.
    """

    length: float | None = None
    scatter: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Machine:
    """The machine that a study is to run on, as far as it is known.

    Attributes:
        name: What to call it.
        pace: Its speed of training; None if it is not known.
        memory: Bytes of the device's memory that one training run may take.
        precision: fp32 or bf16.
        at_once: Training runs side by side.
        cores: Cores that agents and the expert play on; None if that is not known.
        steps_per_second: Actions of the agents a second and core, by run; None if it is not known.
        expert_steps_per_second: Actions of the expert a second and core.
        details: Measurements, for the document.
    """

    name: str
    pace: Pace | None
    memory: float
    precision: str
    at_once: int
    cores: int | None
    steps_per_second: Callable[[TrainConfig], float | None]
    expert_steps_per_second: float | None
    details: Mapping[str, Any]


def gpu_machine(hardware: Hardware, steps_per_second: float | None = None) -> Machine:
    """Return a GPU as the machine of a study, with the actions a second that a CPU core beside it plays."""
    gpu = hardware.gpu
    name, precision = f"{gpu.name} at {100 * hardware.utilisation:g} % of its peak", "bf16"
    details = {"gpu": gpu.name, "utilisation": hardware.utilisation}
    return Machine(name, GpuPace(hardware), gpu.memory, precision, 1, None, lambda _: steps_per_second, None, details)


def this_machine() -> Machine:
    """Return this machine as that of a study, before its speed is measured."""
    memory = psutil.virtual_memory().total / AT_ONCE
    return Machine("this machine", None, memory, "fp32", AT_ONCE, usable_cores(), lambda _: None, None, {})


def preview(
    spec: StudySpec,
    machine: Machine,
    expert_play: ExpectedPlay | None,
    play: AgentPlay,
    fit: Mapping[str, Any] | None = None,
    fit_name: str = "",
    price: float | None = None,
) -> dict[str, Any]:
    """Return the plan of a study with its costs.

    Args:
        spec: The study's specification.
        machine: What it is to run on.
        expert_play: What clones will learn from; None where that is not known.
        play: What is known of the agents' episodes.
        fit: The content of an earlier fit.json, for the expected best sizes.
        fit_name: What to call that.
        price: Of one hour of the machine.

    Raises:
        ValueError: No cell is left, or the corpus is one of another game.
    """
    grid = plan_study(spec, expert_play)
    planned = spec.runs()
    models = _models(spec, planned, machine.precision)
    costs = {
        name: {one.budget: one for one in cell_costs(run, spec.game, machine.pace)} for name, run in grid.runs.items()
    }
    rows = [
        _cell(spec, planned[c.run], c, costs.get(c.run, {}).get(c.flops), models[c.run], machine, play)
        for c in grid.cells
    ]
    trained = [row for row in rows if row["reason"] is None]
    priors = {method: _priors(spec, method, fit, fit_name) for method in spec.method}
    recipe = {method: [row for row in trained if row["method"] == method and not row["varied"]] for method in priors}
    best = [
        _best(method, budget, priors[method], own, models.values())
        for method, own in recipe.items()
        for budget in sorted({row["budget"] for row in own})
    ]
    scatter = play.scatter if play.scatter is not None else _first(p.scatter for own in priors.values() for p in own)
    document = {
        "study": spec.name,
        "game": spec.game,
        "machine": {"name": machine.name, "memory": machine.memory, "precision": machine.precision, **machine.details},
        "corpus": None
        if expert_play is None
        else {"uri": expert_play.uri, "train": expert_play.train, "basis": expert_play.basis},
        "runs": [_run(name, planned[name], models[name]) for name in grid.runs],
        "cells": rows,
        "total": _total(spec, machine, trained, price, expert_play),
        "priors": {method: _sources(best, method) for method in priors},
        "best": best,
    }
    return document | {"warnings": _warnings(spec, document, scatter)}


def _models(spec: StudySpec, runs: Mapping[str, TrainConfig], precision: str) -> dict[str, ModelCost]:
    """Return the model of each run; runs that differ in their seed, say, share it."""
    known: dict[TrainConfig, ModelCost] = {}
    models = {}
    for name, run in runs.items():
        alike = pace_settings(run)
        if alike not in known:
            chosen = precision if run.precision == "auto" else run.precision
            known[alike] = model_cost(run, spec.game, chosen)
        models[name] = known[alike]
    return models


def _run(name: str, run: TrainConfig, model: ModelCost) -> dict[str, Any]:
    settings = {"method": run.method, "size": run.size, "core": run.core, "seed": run.seed, "varied": run.varied}
    return {"run": name, **settings, "batch": run.batch, "unroll": run.unroll, **vars(model)}


def _cell(
    spec: StudySpec,
    run: TrainConfig,
    cell: PlannedCell,
    cost: CellCost | None,
    model: ModelCost,
    machine: Machine,
    play: AgentPlay,
) -> dict[str, Any]:
    """Return the row of a cell; a cell that is left out has no cost."""
    row: dict[str, Any] = {
        "run": cell.run,
        "method": run.method,
        "size": cell.size,
        "seed": run.seed,
        "varied": run.varied,
        "budget": cell.flops,
        "split": run.split(cell.flops),
        "params": model.params,
        "samples": cell.samples,
        "epochs": cell.epochs,
        "steps": round(cell.samples / run.samples_per_step),
        "reason": cell.reason,
    }
    if cost is None:
        return row
    episodes = spec.evaluate.episodes
    rate = machine.steps_per_second(run)
    most = episodes * spec.evaluate.max_steps
    expected = None if play.length is None else episodes * play.length
    return row | {
        "flops": cost.flops,
        "step_seconds": None if cost.seconds is None else cost.seconds / cost.own_steps,
        "hours": cost.hours,
        "memory": model.memory,
        "episodes": episodes,
        "play_steps_most": most,
        "play_steps": expected,
        "play_core_hours_most": _hours(most, rate),
        "play_core_hours": _hours(expected, rate),
    }


def _hours(steps: float | None, per_second: float | None) -> float | None:
    return None if steps is None or per_second is None else steps / per_second / 3600


def _total(
    spec: StudySpec,
    machine: Machine,
    trained: Sequence[Mapping[str, Any]],
    price: float | None,
    expert_play: ExpectedPlay | None,
) -> dict[str, Any]:
    """Return the sums over all cells. Episodes are those of the agents; a random policy plays as many as one more."""
    hours = total([row["hours"] for row in trained])
    summed = ("episodes", "play_steps_most", "play_steps", "play_core_hours_most", "play_core_hours")
    collect = spec.source.collect if spec.source else None
    expert_steps = None if collect is None else collect.games * collect.max_steps
    play = {name: total([row[name] for row in trained]) for name in summed}
    return {
        "runs": len({row["run"] for row in trained}),
        "cells": len(trained),
        "flops": total([row["flops"] for row in trained]),
        "hours": hours,
        "elapsed_hours": None if hours is None else hours / machine.at_once,
        "price": None if hours is None or price is None else hours * price,
        "memory": max(row["memory"] for row in trained),
        **play,
        "expert_games": collect and collect.games,
        "expert_steps_most": expert_steps,
        "expert_core_hours_most": _hours(expert_steps, machine.expert_steps_per_second),
        **_waited(spec, machine, len(trained), hours, play, expert_play),
    }


def _waited(
    spec: StudySpec,
    machine: Machine,
    cells: int,
    hours: float | None,
    play: Mapping[str, float | None],
    expert_play: ExpectedPlay | None,
) -> dict[str, float | None]:
    """Return the hours that a user waits for play, and for all of the study: at most, and as estimated.

    Play is that of the agents, of a random policy, which plays as much as one agent, and of an expert whose games are
    yet to be collected; all cores play. The start of each task, some seconds, is not in it.
    """
    agents = {end: play[f"play_core_hours{end}"] if spec.evaluate.episodes else 0.0 for end in ("_most", "")}
    expert: dict[str, float | None] = {"_most": 0.0, "": 0.0}
    if spec.source and spec.source.collect and expert_play and expert_play.basis != "corpus":
        steps = {
            "_most": spec.source.collect.games * spec.source.collect.max_steps,
            "": expert_play.train / TRAIN_SHARE,
        }
        expert = {end: _hours(steps[end], machine.expert_steps_per_second) for end in steps}
    waited: dict[str, float | None] = {}
    for end in ("_most", ""):
        played = agents[end]
        core_hours = total([None if played is None else played * (1 + 1 / cells), expert[end]])
        known = machine.cores is not None or core_hours == 0
        own = core_hours / (machine.cores or 1) if known and core_hours is not None else None
        training = None if hours is None else hours / machine.at_once
        waited |= {f"play_elapsed_hours{end}": own, f"total_elapsed_hours{end}": total([training, own])}
    return waited


# --- What to expect --------------------------------------------------------------------------------------------------


def known_play(spec: StudySpec, folder: Path | None) -> ExpectedPlay | None:
    """Return the expert play of a study: its corpus, else the most that its collection may have; None if unknown.

    Args:
        spec: The study's specification.
        folder: The study's directory, which may hold the corpus already.
    """
    source = spec.source
    if source is None:
        return None
    made = None if folder is None or not (folder / "corpus" / "corpus.json").is_file() else str(folder / "corpus")
    if uri := source.corpus or made:
        corpus = Corpus.open(uri)
        return ExpectedPlay(uri, corpus.game, corpus.transitions("train"), "corpus")
    if source.collect is None:
        return None
    return ExpectedPlay("collect", spec.game, TRAIN_SHARE * source.collect.games * source.collect.max_steps, "at most")


def earlier_play(spec: StudySpec, folder: Path | None) -> AgentPlay:
    """Return what the episodes say that agents have played in a study's directory."""
    found = sorted(folder.glob("evaluate/*/*/evaluation.json")) if folder is not None else []
    evaluations = [read_evaluation(path) for path in found]
    agents = [one for one in evaluations if one.point is not None]
    if not agents:
        return AgentPlay()
    most = spec.evaluate.max_steps
    lengths = [min(episode.length, most) for one in agents for episode in one.episodes]
    scatters = [
        statistics.stdev(one.returns) / one.return_mean
        for one in agents
        if one.episode_count > 1 and one.return_mean > 0
    ]
    source = f"{numbers.counted(len(lengths), 'episode')} in {folder}"
    return AgentPlay(statistics.fmean(lengths), statistics.median(scatters) if scatters else None, source)


def _priors(spec: StudySpec, method: str, fit: Mapping[str, Any] | None, name: str) -> tuple[Prior, ...]:
    """Return the priors of a method, the one to be asked first at the front: of a given fit, else those known here."""
    if fit is not None:
        given = prior_of(fit, method, name, "dev_loss" if METHODS[method].has_dev_loss else "return_mean")
        return (given,) if given is not None else ()
    return (REFERENCE, NETHACK) if method in IMITATING_METHODS and spec.game.split("/")[0] == "nethack" else ()


def _sources(best: Sequence[Mapping[str, Any]], method: str) -> str | None:
    """Return what the best sizes of a method come from; None where nothing serves."""
    return " and ".join(dict.fromkeys(row["prior"] for row in best if row["method"] == method and row["prior"])) or None


def _best(
    method: str,
    budget: float,
    priors: Sequence[Prior],
    cells: Sequence[Mapping[str, Any]],
    models: Any,
) -> dict[str, Any]:
    """Return the expected best size of a budget, the planned size next to it, and its optimizer steps there."""
    row: dict[str, Any] = {"method": method, "budget": budget, "params": None, "prior": None}
    prior = next((prior for prior in priors if prior.serves(budget)), None)
    if prior is None:
        return row
    params = prior.best(budget, [(model.params, model.flops_per_sample) for model in models])
    sizes = sorted({cell["params"]: cell for cell in cells if cell["budget"] == budget}.items())
    nearest = min(sizes, key=lambda item: max(item[0] / params, params / item[0]))[1]
    side = "below" if params < sizes[0][0] else "above" if params > sizes[-1][0] else "inside"
    known = {"params": params, "prior": prior.source, "side": side}
    return row | known | {"size": nearest["size"], "steps": nearest["steps"]}


def _first(values: Any) -> float | None:
    return next((value for value in values if value is not None), None)


# --- Warnings --------------------------------------------------------------------------------------------------------


def _warnings(spec: StudySpec, document: Mapping[str, Any], scatter: float | None) -> list[dict[str, str]]:
    """Return what should be looked at before the study runs, each with its code."""
    trained = [row for row in document["cells"] if row["reason"] is None]
    warned = [
        ("best-outside-sizes", _outside(document["best"])),
        ("many-epochs", _many_epochs(document["corpus"], trained)),
        ("few-steps", _few_steps(document["best"])),
        ("few-episodes", _few_episodes(spec.evaluate.episodes, scatter)),
        ("memory", _memory(document["machine"], trained)),
        ("utilisation", _utilisation(document["machine"], trained)),
    ]
    return [{"code": code, "text": text} for code, text in warned if text]


def _outside(best: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for side, more in (("below", "smaller"), ("above", "larger")):
        outside = [row for row in best if row["params"] is not None and row["side"] == side]
        if outside:
            sizes = " to ".join(dict.fromkeys(numbers.count(f([row["params"] for row in outside])) for f in (min, max)))
            parts.append(
                f"at {_budgets(outside)} FLOPs the best size is expected {side} the sizes trained: {sizes}; "
                f"add {more} sizes"
            )
    return "; ".join(parts)


def _many_epochs(corpus: Mapping[str, Any] | None, trained: Sequence[Mapping[str, Any]]) -> str:
    many = [row for row in trained if row["epochs"] is not None and row["epochs"] > MOST_EPOCHS]
    if not many or corpus is None:
        return ""
    most = max(row["epochs"] for row in many)
    least = "at least " if corpus["basis"] == "at most" else ""
    cells = numbers.counted(len(many), "cell")
    return (
        f"{cells} of {len(trained)} see the data more than {MOST_EPOCHS} times, up to {least}{most:.3g} times "
        f"({', '.join(dict.fromkeys(row['size'] for row in many))}): collect more games, or set max_budget for them"
    )


def _few_steps(best: Sequence[Mapping[str, Any]]) -> str:
    few = [row for row in best if row["params"] is not None and row["steps"] < FEWEST_STEPS]
    if not few:
        return ""
    steps = ", ".join(f"{row['steps']} of {row['size']} at {budget_name(row['budget'])}" for row in few)
    return (
        f"fewer than {FEWEST_STEPS} optimizer steps at the size expected to be best: {steps}; raise the budgets, or "
        "lower training.batch or unroll"
    )


def _few_episodes(episodes: int, scatter: float | None) -> str:
    if scatter is None or not episodes or scatter / episodes**0.5 <= LARGEST_ERROR:
        return ""
    enough = numbers.count(float(f"{(scatter / LARGEST_ERROR) ** 2:.2g}"))
    return (
        f"{episodes} episodes give a return a standard error of about {100 * scatter / episodes**0.5:.0f} %; about "
        f"{enough} would give {100 * LARGEST_ERROR:.0f} %"
    )


def _memory(machine: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> str:
    over = [row for row in trained if row["memory"] > machine["memory"]]
    if not over:
        return ""
    sizes = ", ".join(dict.fromkeys(row["size"] for row in over))
    return (
        f"{sizes}: training takes about {max(row['memory'] for row in over) / 1e9:.3g} GB, the device has "
        f"{machine['memory'] / 1e9:.3g} GB for a run: lower training.batch or unroll, or train on several devices"
    )


def _utilisation(machine: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> str:
    quick = [row for row in trained if "gpu" in machine and row["step_seconds"] < SHORTEST_STEP]
    if not quick:
        return ""
    sizes = ", ".join(dict.fromkeys(row["size"] for row in quick))
    shortest = min(row["step_seconds"] for row in quick)
    return (
        f"{sizes}: an optimizer step would take {1000 * shortest:.2g} ms, but starting its kernels alone takes more "
        f"than {1000 * SHORTEST_STEP:g} ms: expect many times these hours, or raise training.batch"
    )


def _budgets(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(budget_name(row["budget"]) for row in rows))
