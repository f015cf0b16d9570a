"""The study pipeline: collect, prepare, plan, then train and evaluate every run side by side, then fit.

    study: collect > prepare > plan > grid > fit > check       grid: runs > taught       taught: plan > runs

Runs that are taught by clones of the same study come second: the plan returns them when the clones are trained. The
references, which are evaluated and not trained, are among them, so that there always is one.

A run that fails for good fails the grid, but keeps neither the other runs, nor `taught`, nor `fit` from running. The
backend of Kubeflow 2.17 makes a task that ignores upstream failures an exit hook of the one task that it follows: a
component or a pipeline, never a loop. Nothing can follow a hook, and the state of the whole does not depend on it.
Therefore the loop, what follows it, and both together are pipelines of their own, and a last step looks whether all is
there. It is left out after a grid that failed, and the whole then counts as successful: `submit --wait` looks at the
steps. On one machine there is none: kfp.local fails by itself, and may run it before `fit`.

Where one pod has several runs (`together`), the evaluation likewise follows a training that failed, since other runs of
the group may be trained.
"""

from typing import TYPE_CHECKING, Protocol

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel

from playscale_components.check.component import check
from playscale_components.collect.component import collect
from playscale_components.evaluate.component import evaluate
from playscale_components.fit.component import fit
from playscale_components.plan.component import plan
from playscale_components.prepare.component import prepare
from playscale_components.train.component import train
from playscale_components.train_job.component import train as train_by_job

if TYPE_CHECKING:
    from .pods import Pods


class Ready(Protocol):
    """Applies the settings that a task of a component has; returns the task."""

    def __call__(
        self, task: dsl.PipelineTask, component: str, gpus: PipelineChannel | None = None
    ) -> dsl.PipelineTask: ...


def ready_with(pods: "Pods | None") -> Ready:
    """Return what applies pod settings to a task (None: there are none, for one machine)."""

    def ready(task: dsl.PipelineTask, component: str, gpus: PipelineChannel | None = None) -> dsl.PipelineTask:
        task.set_caching_options(False)  # each step keeps finished work by itself, and must log to MLflow
        if pods:
            pods.apply(task, component, gpus)
        return task

    return ready


def runs_pipeline(ready: Ready, together: int, pods: "Pods | None") -> BaseComponent:
    """Return the pipeline that trains and evaluates runs, a part of others; `together`: the most runs in one pod."""
    job = pods.train_job() if pods else ""

    @dsl.pipeline(name="runs", description="Train and evaluate runs side by side.")
    def runs(spec: str, names: list, out: str, tracking_uri: str, gpus: str) -> None:
        with dsl.ParallelFor(names) as run:
            given = {"spec": spec, "run": run, "out": out, "tracking_uri": tracking_uri}
            if pods and job:
                own = {"gpus": gpus, "gpu_type": pods.train.gpu_type, "job": job}
                trained = ready(train_by_job(**given, **own), "train")
            else:
                trained = ready(train(**given), "train", gpus)
            saved = trained.output if together == 1 else ""
            played = evaluate(spec=spec, run=run, checkpoints=saved, out=out, tracking_uri=tracking_uri)
            ready(played, "evaluate")
            if together > 1:
                played.after(trained).ignore_upstream_failure()

    return runs


def study_pipeline(pods: "Pods | None" = None) -> BaseComponent:
    """Return the pipeline, with pod settings for a cluster (None: without, for one machine)."""
    ready, together = ready_with(pods), pods.train.together if pods else 1
    runs = runs_pipeline(ready, together, pods)

    @dsl.pipeline(name="taught", description="The runs that clones teach, and the references.")
    def taught(spec: str, out: str, tracking_uri: str, gpus: str) -> None:
        planned = plan(spec=spec, corpus="", out=out, tracking_uri=tracking_uri, trained=[], together=together)
        names = ready(planned, "plan").output
        runs(spec=spec, names=names, out=out, tracking_uri=tracking_uri, gpus=gpus)

    @dsl.pipeline(name="grid", description="All runs.")
    def grid(spec: str, names: list, out: str, tracking_uri: str, gpus: str) -> None:
        first = runs(spec=spec, names=names, out=out, tracking_uri=tracking_uri, gpus=gpus)
        taught(spec=spec, out=out, tracking_uri=tracking_uri, gpus=gpus).after(first).ignore_upstream_failure()

    @dsl.pipeline(
        name="playscale-study",
        description="An isoFLOP study: from a game or expert games to laws, forecasts and a report.",
    )
    def study(
        spec: str,
        out: str,
        tracking_uri: str = "",
        gpus: str = str(pods.train.gpus if pods else 0),
        include_forecasts: bool = False,
    ) -> None:
        """A study's spec (YAML text), where it is written, its MLflow server ("": as the environment says, else SQLite
        in `out`), the GPUs of each training pod (as text: Kubeflow's driver takes no other for a resource), and whether
        agents of forecasts are fitted, too.
        """
        games = ready(collect(spec=spec, out=out), "collect")
        corpus = ready(prepare(spec=spec, games=games.output, out=out), "prepare")
        made = corpus.output
        planned = ready(plan(spec=spec, corpus=made, out=out, tracking_uri=tracking_uri, together=together), "plan")
        trained = grid(spec=spec, names=planned.output, out=out, tracking_uri=tracking_uri, gpus=gpus)
        laws = ready(fit(spec=spec, out=out, tracking_uri=tracking_uri, include_forecasts=include_forecasts), "fit")
        laws.after(trained).ignore_upstream_failure()
        if pods:
            ready(check(spec=spec, out=out), "check").after(trained).set_retry(0)

    return study
