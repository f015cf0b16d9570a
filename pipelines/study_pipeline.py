"""The study pipeline: collect, prepare, plan, then train and evaluate every run side by side, then fit.

Runs that are taught by clones of the same study come second, in a second loop over the runs that the plan then returns.
The references, which are evaluated and not trained, are in that loop: kfp.local cannot collect from an empty loop.
"""

from typing import TYPE_CHECKING

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel

from playscale_components.collect.component import collect
from playscale_components.evaluate.component import evaluate
from playscale_components.fit.component import fit
from playscale_components.plan.component import plan
from playscale_components.prepare.component import prepare
from playscale_components.train.component import train

if TYPE_CHECKING:
    from .pods import Pods


def study_pipeline(pods: "Pods | None" = None) -> BaseComponent:
    """Return the pipeline, with pod settings for a cluster (None: without, for one machine)."""

    def ready(task: dsl.PipelineTask, component: str, gpus: PipelineChannel | None = None) -> dsl.PipelineTask:
        task.set_caching_options(False)  # each step keeps finished work by itself, and must log to MLflow
        if pods:
            pods.apply(task, component, gpus)
        return task

    @dsl.pipeline(
        name="playscale-study",
        description="An isoFLOP study: from a game or expert games to laws, forecasts and a report.",
    )
    def study(spec: str, out: str, tracking_uri: str = "", gpus: str = str(pods.train.gpus if pods else 0)) -> str:
        """A study's spec (YAML text), where it is written, its MLflow server ("": as the environment says, else SQLite
        in `out`), and the GPUs of each training pod (as text: Kubeflow's driver takes no other for a resource).
        """
        games = ready(collect(spec=spec, out=out), "collect")
        corpus = ready(prepare(spec=spec, games=games.output, out=out), "prepare")
        grid = ready(plan(spec=spec, corpus=corpus.output, out=out, tracking_uri=tracking_uri), "plan")

        def fan_out(runs: PipelineChannel) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
            # Only the loop's item may come from another task: kfp.local replaces every such input by the item.
            with dsl.ParallelFor(runs) as run:
                trained = ready(train(spec=spec, run=run, out=out, tracking_uri=tracking_uri), "train", gpus)
                saved = trained.output
                played = evaluate(spec=spec, run=run, checkpoints=saved, out=out, tracking_uri=tracking_uri)
                return trained, ready(played, "evaluate")

        trained, played = fan_out(grid.output)
        done = dsl.Collected(trained.output)
        taught = plan(spec=spec, corpus=corpus.output, out=out, tracking_uri=tracking_uri, trained=done)
        _, taught_played = fan_out(ready(taught, "plan").output)
        rows, taught_rows = dsl.Collected(played.output), dsl.Collected(taught_played.output)
        fitted = fit(spec=spec, evaluated=rows, taught=taught_rows, out=out, tracking_uri=tracking_uri)
        return ready(fitted, "fit").outputs["Output"]

    return study
