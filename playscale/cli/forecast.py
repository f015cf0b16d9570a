"""`playscale study forecast`: forecast what a budget brings, train the agent, and score the forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from playscale.cli.options import IncludeForecasts, Tracking, echo, named, output_folder
from playscale.cli.study import Image, KubeContext, Namespace, PodFile, Spec, submit_pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playscale.scaling.cells import Target
    from playscale.scaling.ledger import Entry
    from playscale.study.forecast_plan import ForecastPlan
    from playscale.study.forecast_run import ForecastResult, LocalForecast


def study_forecast(
    spec: Spec,
    budget: Annotated[
        str, typer.Option(help="Budget to forecast for, in training FLOPs, beyond those fitted: 3.2e12.")
    ],
    targets: Annotated[
        str, typer.Option("--for", help="What of the best agent: loss, return, or both. Default: what has a law.")
    ] = "",
    out: Annotated[
        str | None,
        typer.Option(callback=output_folder, help="Directory of the study, or s3://BUCKET/PREFIX. Default: out/NAME."),
    ] = None,
    void: Annotated[
        str | None,
        typer.Option(callback=named, help="Void what is still open of this, for this reason: it cannot be finished."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be registered, trained and spent.")
    ] = False,
    method: Annotated[str, typer.Option(help="Method of the agents. Default: the study's, where it has one.")] = "",
    seeds: Annotated[
        str, typer.Option(help="Seeds of the agents, comma-separated: one run for each. Default: the study's.")
    ] = "",
    episodes: Annotated[
        str, typer.Option(help="Episodes of each agent. Default: for a standard error of a tenth of the mean return.")
    ] = "",
    include_forecasts: IncludeForecasts = False,
    tracking_uri: Tracking = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Submit it to this Kubeflow Pipelines server, as `study submit` does.")
    ] = None,
    image: Image = None,
    pods: PodFile = None,
    namespace: Namespace = None,
    service_account: Annotated[str, typer.Option(help="Service account of the pods.")] = "playscale-pipeline",
    wait: Annotated[bool, typer.Option("--wait", help="With --endpoint: show it until its end.")] = False,
    kube_context: KubeContext = None,
) -> None:
    """Forecast the best agent of a larger budget, register the forecast, train that agent, and score the forecast.

    The study must have been run. The forecasts are kept in OUT/ledger.jsonl, their agents in OUT/forecasts. Run again
    after a stop, it goes on: a forecast is registered once, and scored once.

    \b
    Example:
      playscale study forecast studies/smoke.yaml --budget 3.2e10 --for loss --dry-run
    """
    options: dict[str, Any] = {
        "budget": budget,
        "targets": targets,
        "method": method,
        "seeds": seeds,
        "episodes": episodes,
        "include_forecasts": include_forecasts,
    }
    if endpoint and (void or dry_run):
        raise ValueError("--endpoint: --dry-run and --void are of this machine; leave one of them out")
    if endpoint:
        from playscale.study.forecast_plan import Asked
        from playscale.study.spec import read_spec

        Asked.of(read_spec(spec), options)
        submit_pipeline(
            "forecast",
            spec,
            options,
            endpoint=endpoint,
            image=image,
            out=out,
            pods=pods,
            tracking_uri=tracking_uri or "",
            experiment=None,
            namespace=namespace,
            service_account=service_account,
            wait=wait,
            resubmit=0,
            kube_context=kube_context,
        )
        return
    from playscale.study.forecast_run import LocalForecast, opened, registered
    from playscale.study.local_run import LocalStudy
    from playscale.study.spec import read_spec

    read_spec(spec)
    with opened(spec, out, options, store=bool(void) and not dry_run) as question:
        if dry_run:
            plan, entries = registered(question)
            _show_plan(plan, entries)
            return
        forecast = LocalForecast(LocalStudy.open(spec, out, tracking_uri), options, question)
        result = _run(forecast, f"forecast of {budget} FLOPs", void)
    for entry in result.entries:
        echo(outcome_text(entry))
    echo(f"ledger: {forecast.study.uri}/ledger.jsonl")
    if result.complaint and not void:
        raise RuntimeError(result.complaint)


def _run(forecast: LocalForecast, name: str, void: str | None) -> ForecastResult:
    from playscale.cli.console import show
    from playscale.cli.study_console import study_progress

    show(f"{name} by the study {forecast.study.spec.name} in {forecast.study.uri}")
    if void:
        return forecast.void(void)
    with study_progress(name) as on_progress:
        return forecast.run(on_progress)


def forecast_text(entry: Entry) -> str:
    """Say what a forecast is."""
    ends = [f"{end:.4g}" if end is not None else "no end" for end in (entry.low, entry.high)]
    interval = (
        f", {100 * entry.level:.0f} % interval {ends[0]} to {ends[1]}" if entry.low or entry.high else ", no interval"
    )
    known = "; retrospective: outcomes at this budget are known" if entry.retrospective else ""
    return f"{entry.target} of {entry.value:.4g}{interval}, by {entry.law}{known}"


def outcome_text(entry: Entry) -> str:
    """Say what a forecast was, and what came of it."""
    head = f"{entry.id}: {forecast_text(entry)}"
    if entry.state != "scored" or entry.outcome is None:
        return f"{head}; {entry.state}{': ' + entry.reason if entry.reason else ''}"
    parts = [f"measured {entry.outcome:.4g}"]
    if entry.error is not None:
        parts.append(f"error {entry.error:+.3f} (ln of measured over forecast)")
    if entry.inside is not None:
        parts.append("inside" if entry.inside else "outside")
    if entry.rank is not None:
        parts.append(f"rank {entry.rank:.2f}")
    if entry.seed_share is not None:
        parts.append(f"{entry.seeds} seeds, which make {100 * entry.seed_share:.0f} % of an agent's squared error")
    return f"{head}; {', '.join(parts)}"


def _show_plan(plan: ForecastPlan, entries: Mapping[Target, Entry]) -> None:
    for target, entry in entries.items():
        one, cell = plan.recommended[target], plan.cell_of(target)
        verb = f"registered as {entry.id}, {entry.state}" if entry.id else "would register"
        echo(f"{verb}: {forecast_text(entry)}")
        echo(f"  the law: {one.why}")
        note = f" ({one.note})" if one.note else ""
        echo(f"  recommended: {one.params:,.0f} parameters{note}; trained is size {cell.size}")
    costs = plan.costs()
    for name, cost in costs.items():
        cell = next(cell for cell in plan.grid.cells if cell.run == name)
        epochs = f", {cell.epochs:.1f} epochs" if cell.epochs is not None else ""
        what = f"{cost.flops:.4g} FLOPs, {cost.samples:,.0f} samples{epochs}, {cost.steps:,} optimizer steps"
        echo(f"would train: {name}: {what}; {plan.episodes} episodes")
    hours = [cost.hours for cost in costs.values() if cost.hours is not None]
    on_gpu = f", {sum(hours):.3g} GPU hours" if hours else ""
    total = sum(cost.flops for cost in costs.values())
    echo(f"would cost: {total:.4g} FLOPs of training{on_gpu}, {plan.episodes * len(costs)} episodes")
