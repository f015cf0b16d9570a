"""The speed of this machine: a few seconds of training and of play, through the code that a study runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from playscale.agents.checkpoint import save_checkpoint
from playscale.agents.device import (
    default_threads,
    matmul_rate,
    resolve_device,
    resolve_precision,
    torch_threads,
)
from playscale.agents.policy import build_policy
from playscale.config import COLLECTING_SEED, IMITATING_METHODS, TrainConfig
from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare
from playscale.games.game import get_game
from playscale.processes.cores import usable_cores
from playscale.rollout.collect import collect
from playscale.rollout.evaluate import evaluate
from playscale.rollout.references import evaluate_random
from playscale.study.costs import CellCost, pace_settings
from playscale.study.local_run import AT_ONCE
from playscale.study.plan import trained_policy
from playscale.study.preview import TRAIN_SHARE, ExpectedPlay, Machine
from playscale.study.spec import StudySpec
from playscale.training.dev_loss import COLUMNS
from playscale.training.distributed import Group
from playscale.training.identity import sources
from playscale.training.run import Run
from playscale.training.trainer import Trainer, make_method

WARM_UP = 3  # optimizer steps, in which memory is allocated
SAMPLE_GAMES, SAMPLE_STEPS = 8, 300  # expert games to train on, and the most actions of each
PLAY_EPISODES, PLAY_STEPS = 32, 100
MATMUL_SECONDS, MATMUL_SIZE = 0.1, 1024

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class RunPace:
    """Seconds of one kind of run on this machine.

    Attributes:
        start: Before the first step.
        step: Of an optimizer step.
        cell: At each cell beside its steps: the stream of batches begins anew, the state is saved.
        dev: Of a dev loss; 0 without one.
        matmul: FLOP/s of a matrix product on one thread, measured before and after.
    """

    start: float
    step: float
    cell: float
    dev: float
    matmul: float

    def at(self, matmul: float) -> RunPace:
        """Return the pace while a matrix product has this rate instead."""
        slower = self.matmul / matmul
        return RunPace(self.start * slower, self.step * slower, self.cell * slower, self.dev * slower, matmul)


@dataclass(frozen=True)
class MeasuredPace:
    """The measured paces of runs, by the settings that decide them; see `pace_settings`."""

    runs: Mapping[TrainConfig, RunPace]

    def seconds(self, run: TrainConfig, cell: CellCost) -> float | None:
        """Return the seconds of a cell; None for a run of a kind that was not measured."""
        pace = self.runs.get(pace_settings(run))
        if pace is None:
            return None
        is_first = cell.own_steps == cell.steps
        alone = pace.step * cell.own_steps + pace.dev * cell.dev_losses + pace.cell + pace.start * is_first
        return alone * (AT_ONCE if run.rl is not None else 1)  # actors of one run can use all cores


def at_one_rate(paces: Mapping[TrainConfig, RunPace]) -> MeasuredPace:
    """Return paces as if all had been measured while the machine multiplied at their median rate."""
    matmul = statistics.median(pace.matmul for pace in paces.values())
    return MeasuredPace({run: pace.at(matmul) for run, pace in paces.items()})


def measured_machine(
    spec: StudySpec, expert_play: ExpectedPlay | None, folder: Path, seconds: float, progress: Progress
) -> tuple[Machine, ExpectedPlay | None]:
    """Measure this machine as that of a study.

    Args:
        spec: The study's specification.
        expert_play: What is known of its expert play. Without a corpus the expert plays a few games to train on.
        folder: An empty directory for that.
        seconds: Of optimizer steps for each kind of run.
        progress: Called with a text and the fraction done.

    Returns:
        The machine, and the expert play, estimated where the games that were played tell more.
    """
    kinds = {pace_settings(run): run for run in spec.runs().values()}
    corpus, expert_rate = None, None
    if any(run.method in IMITATING_METHODS for run in kinds):
        if expert_play is not None and expert_play.basis == "corpus":
            corpus = Corpus.open(expert_play.uri)
        else:
            progress("the expert plays", 0.0)
            corpus, expert_rate = sample_corpus(spec, folder)
            expert_play = estimated(spec, expert_play, corpus)
    dev = math.inf if expert_play is None else expert_play.transitions("dev")
    paces, agents = {}, {}
    for i, (kind, run) in enumerate(kinds.items()):
        progress(f"train {run.method} {run.size}", (1 + i) / (2 + len(kinds)))
        own = folder / f"run-{i}"
        paces[kind] = training_pace(spec, run, corpus, own, seconds, min(run.dev_samples, dev))
        agents[kind] = own / "agent"
    progress("play", (1 + len(kinds)) / (2 + len(kinds)))
    rates = playing_rates(spec, agents, folder / "play") if spec.evaluate.episodes else {}
    device = resolve_device(spec.training.device)
    memory = psutil.virtual_memory().total
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    pace = at_one_rate(paces)
    machine = Machine(
        name=f"this machine, {AT_ONCE} runs at once",
        pace=pace,
        memory=memory / AT_ONCE,
        precision=resolve_precision(spec.training.precision, device),
        at_once=AT_ONCE,
        cores=usable_cores(),
        steps_per_second=lambda run: rates.get(pace_settings(run)),
        expert_steps_per_second=expert_rate,
        details={
            "matmul_flops_per_second": next(iter(pace.runs.values())).matmul,
            "matmul_range": [f(one.matmul for one in paces.values()) for f in (min, max)],
        },
    )
    return machine, expert_play


def sample_corpus(spec: StudySpec, folder: Path) -> tuple[Corpus, float]:
    """Let the expert play a few games; return their corpus, and the expert's actions a second and core.

    There are as many dev games as the dev loss of the study reads side by side.
    """
    asked = spec.source.collect if spec.source else None
    dev = COLUMNS if asked is None else min(COLUMNS, max(1, round((1 - TRAIN_SHARE) * asked.games)))
    most = SAMPLE_STEPS if asked is None else min(SAMPLE_STEPS, asked.max_steps)
    seed, games, workers = asked.seed if asked else COLLECTING_SEED, SAMPLE_GAMES + dev, usable_cores()
    begun = time.perf_counter()
    played = collect(spec.game, games, folder / "games", seed=seed, workers=workers, max_steps=most)
    rate = played.transitions / (time.perf_counter() - begun) / workers
    return prepare(folder / "games", folder / "corpus", game=spec.game, dev_fraction=dev / games), rate


def estimated(spec: StudySpec, expert_play: ExpectedPlay | None, sample: Corpus) -> ExpectedPlay | None:
    """Return the expected transitions by the lengths of a few games, where none of these was cut too early to tell."""
    asked = spec.source.collect if spec.source else None
    lengths = [game.transitions for game in sample.games]
    if expert_play is None or asked is None or (max(lengths) >= SAMPLE_STEPS and asked.max_steps > SAMPLE_STEPS):
        return expert_play
    train = TRAIN_SHARE * asked.games * statistics.fmean(lengths)
    return replace(expert_play, train=train, basis="estimated")


def training_pace(
    spec: StudySpec, run: TrainConfig, corpus: Corpus | None, out: Path, seconds: float, dev_samples: float
) -> RunPace:
    """Train the first steps of a run, with the study's own loop, for some seconds; leave the agent in OUT/agent.

    `dev_samples`: what the study's dev loss will be measured on; the corpus at hand may have fewer.
    """
    if run.teacher_is_clone_of_study:
        assert run.rl is not None
        clone = build_policy(trained_policy(run.size, run.core, None, spec.game))
        save_checkpoint(out / "teacher", clone, {})
        run = run.model_copy(update={"rl": run.rl.model_copy(update={"teacher": str(out / "teacher")})})
    uri, group = None if corpus is None or run.rl is not None else corpus.uri, Group()
    begun = time.perf_counter()
    method = make_method(run, uri, group, out)
    whole = Run(out, run, method.policy_config, sources(run, uri))
    threads = run.threads or min(default_threads(whole.params), max(1, usable_cores() // AT_ONCE))
    with closing(method), torch_threads(threads), torch.random.fork_rng(enabled=method.device.type != "cuda"):
        trainer = Trainer(whole, method, None, None, None)
        state = trainer.start()
        segment = trainer.segment_before(whole.cells[-1])
        last = whole.cells[-1].step
        trainer.advance(state, replace(segment, until=min(WARM_UP, last)))
        start, before = time.perf_counter() - begun, _matmul(method.device)
        timer, trained, taken, outside = state.timer, 0.0, 0, 0.0
        while (trained < seconds and state.step < last) or not taken:
            ahead = max(2, min(last - state.step, round((seconds - trained) * taken / trained) if taken else WARM_UP))
            clock, dev, begun = timer.training, timer.seconds["dev"], time.perf_counter()
            trainer.advance(state, replace(segment, until=state.step + ahead))
            spent = timer.training - clock
            outside = time.perf_counter() - begun - spent - (timer.seconds["dev"] - dev)
            trained, taken = trained + spent, taken + ahead
        after = _matmul(method.device)
        begun = time.perf_counter()
        measured = method.dev_loss(state.policy)
        dev = 0.0 if measured is None else (time.perf_counter() - begun) * dev_samples / measured.samples
        save_checkpoint(out / "agent", state.policy, {})
    step = trained / taken
    return RunPace(max(0.0, start - WARM_UP * step), step, max(0.0, outside), dev, (before + after) / 2)


def _matmul(device: torch.device) -> float:
    with torch_threads(1):
        return matmul_rate(device, "fp32", MATMUL_SECONDS, MATMUL_SIZE)


def playing_rates(spec: StudySpec, agents: Mapping[TrainConfig, Path], out: Path) -> dict[TrainConfig, float]:
    """Let agents play the beginnings of a few episodes; return the actions a second and core of each."""
    settings = spec.evaluate
    played = evaluate(
        list(agents.values()),
        min(PLAY_EPISODES, settings.episodes),
        out,
        max_steps=min(PLAY_STEPS, settings.max_steps),
        workers=usable_cores(),
        seed=settings.seed,
        device=spec.training.device,
        temperature=settings.temperature,
        game=spec.played,
    )
    return {kind: one.steps / one.seconds for kind, one in zip(agents, played, strict=True)}


def environment_rate(spec: StudySpec, out: Path) -> float:
    """Return the actions a second and core of a random policy: what the game alone takes, where a GPU has the agent."""
    game, settings = get_game(spec.played or spec.game), spec.evaluate
    steps = min(PLAY_STEPS, settings.max_steps)
    played = evaluate_random(game, PLAY_EPISODES, out, max_steps=steps, workers=1, seed=settings.seed)
    return played.steps / played.seconds
