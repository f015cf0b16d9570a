"""The study pipeline: collect, prepare, plan, then train and evaluate every run side by side, then fit.

Runs that are taught by clones of the same study come second: the same components again, over what the plan then says.
With them come the references, which are played and not trained: kfp.local cannot collect from a loop over nothing.
"""

from kfp import dsl
from kfp.dsl import pipeline_channel

from components.collect.component import collect
from components.evaluate.component import evaluate
from components.fit.component import fit
from components.plan.component import plan
from components.prepare.component import prepare
from components.train.component import train


@dsl.pipeline(
    name="playscale-study", description="An isoFLOP study: from a game or expert games to laws, forecasts and a report."
)
def study(spec: str, out: str, tracking_uri: str = "") -> str:
    """A study's spec (YAML text), the directory it may fill, and the MLflow server it logs to ("": SQLite in `out`).

    No task is cached: each finds out by itself what is already done, and logging to MLflow must happen.
    """
    games = collect(spec=spec, out=out).set_caching_options(False)
    corpus = prepare(spec=spec, games=games.output, out=out).set_caching_options(False)
    grid = plan(spec=spec, corpus=corpus.output, out=out, tracking_uri=tracking_uri).set_caching_options(False)

    def fan_out(runs: pipeline_channel.PipelineChannel) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
        # Nothing but the loop's own item may come from another task: kfp.local puts the item in its place.
        with dsl.ParallelFor(runs) as run:
            trained = train(spec=spec, run=run, out=out, tracking_uri=tracking_uri).set_caching_options(False)
            played = evaluate(spec=spec, run=run, checkpoints=trained.output, out=out, tracking_uri=tracking_uri)
            played.set_caching_options(False)
        return trained, played

    trained, played = fan_out(grid.output)
    taught = plan(
        spec=spec, corpus=corpus.output, out=out, tracking_uri=tracking_uri, trained=dsl.Collected(trained.output)
    ).set_caching_options(False)
    _, taught_played = fan_out(taught.output)
    fitted = fit(
        spec=spec,
        evaluated=dsl.Collected(played.output),
        taught=dsl.Collected(taught_played.output),
        out=out,
        tracking_uri=tracking_uri,
    )
    fitted.set_caching_options(False)
    return fitted.outputs["Output"]
