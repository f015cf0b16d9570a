"""A study, or a forecast of it, that runs on a cluster: its steps, their pods, and how much is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from playscale.study.context import REFERENCES
from playscale.study.groups import members


@dataclass(frozen=True)
class StepPod:
    """A pod of a step: one try at it.

    Attributes:
        name: Its name in Kubernetes.
        state: waiting, running, done or failed.
        reason: Why it waits or failed, in the words of Kubernetes.
    """

    name: str
    state: str
    reason: str


@dataclass(frozen=True)
class ClusterStep:
    """A step of a study or of a forecast.

    Attributes:
        component: The component, "score" for the second call of `forecast`; or, of a driver pod that Kubeflow adds to
            a loop, the name of its task.
        run: Name of the training run, of several in one pod all names (see groups.py), "run 3" while only its number
            is known, "" for a step of the whole study.
        state: waiting, running, done, failed or omitted.
        place: Its place in the pipeline, which no other step has.
        pods: Its pods, in the order they started; at first those of its driver.
        seconds: Seconds that it took; None before its end.
    """

    component: str
    run: str
    state: str
    place: str
    pods: tuple[StepPod, ...] = ()
    seconds: float | None = None

    @property
    def title(self) -> str:
        return f"{self.component} {', '.join(self.runs)}".rstrip()

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the training runs."""
        return members(self.run)

    @property
    def reason(self) -> str:
        """Why the newest pod waits or failed; "" if it did not."""
        return self.pods[-1].reason if self.pods else ""

    @property
    def failures(self) -> int:
        """Number of pods that failed."""
        return sum(pod.state == "failed" for pod in self.pods)

    @property
    def part(self) -> str:
        """The part of the study that it counts for; "" for one without work of its own."""
        if self.run == REFERENCES:
            return REFERENCES if self.component == "evaluate" else ""
        return self.component


def study_parts(runs: int) -> dict[str, int]:
    """Return the parts of a study of so many training runs, in order, and the number of their steps."""
    return {"collect": 1, "prepare": 1, "plan": 1, "train": runs, "evaluate": runs, REFERENCES: 1, "fit": 1}


def forecast_parts(runs: int) -> dict[str, int]:
    """Return the parts of a forecast, as study_parts() does."""
    return {"forecast": 1, "train": runs, "evaluate": runs, "score": 1}


class StudyPart(NamedTuple):
    """A part of a study: how many of its steps are done, of how many; on a cluster, those that are at work or wait."""

    name: str
    done: int
    total: int
    open: Sequence[ClusterStep] = ()


@dataclass(frozen=True)
class ClusterProgress:
    """The progress of a study, or of a forecast, on a cluster.

    Attributes:
        steps: The steps that have begun.
        totals: Number of steps of each part, in order, as far as it is known.
        elapsed: Seconds since it is watched.
        least: Fraction that was done when it was looked at before.
    """

    steps: Sequence[ClusterStep]
    totals: Mapping[str, int]
    elapsed: float
    least: float = 0.0

    @property
    def parts(self) -> list[StudyPart]:
        """The parts, in order."""
        return [StudyPart(name, *self._counts(name, total)) for name, total in self.totals.items()]

    def _counts(self, name: str, total: int) -> tuple[int, int, list[ClusterStep]]:
        own = [step for step in self.steps if step.part == name]
        done = sum(max(1, len(step.runs)) for step in own if step.state == "done")
        return min(done, total), total, [step for step in own if step.state in {"running", "waiting"}]

    @property
    def fraction(self) -> float:
        """The fraction of the steps that is done; it never falls."""
        parts = self.parts
        return max(self.least, sum(part.done for part in parts) / sum(part.total for part in parts))

    @property
    def failed(self) -> list[ClusterStep]:
        return [step for step in self.steps if step.state == "failed"]

    @property
    def summary(self) -> str:
        """The parts done, the steps at work, and the steps that wait with their reasons, in a line."""
        parts = self.parts
        several = [
            f"{part.name} {part.done} of {part.total}" for part in parts if part.total > 1 and (part.done or part.open)
        ]
        whole = [part.name for part in parts if part.total == 1 and part.done]
        now = [step.title for step in self.steps if step.state == "running"]
        waits = [f"{step.title} waits: {step.reason}" for step in self.steps if step.state == "waiting"]
        done = f"{', '.join(whole)} done" if whole else ""
        running = f"now {', '.join(now)}" if now else ""
        return "; ".join(text for text in (done, ", ".join(several), running, *waits) if text) or "waits for Kubeflow"
