"""Whole studies: `playscale study ...` and `playscale compile`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from playscale.cli.options import IncludeForecasts, OutFolder, Tracking, echo, named, output_folder
from playscale.storage.files import local_path, read_text
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace

if TYPE_CHECKING:
    from playscale.study.cluster_run import ClusterProgress

log = logging.getLogger(__name__)
SPEC = "spec.yaml"  # in a study's directory: see playscale/study/steps.py
BUCKET = "s3://playscale/studies"  # the chart's bucket: default place of a submitted study

Spec = Annotated[Path, typer.Argument(help="Specification of the study, YAML; see studies/.")]
Image = Annotated[
    str | None, typer.Option(envvar="PLAYSCALE_IMAGE", help="Container image that the components run in.")
]
Namespace = Annotated[str | None, typer.Option(help="Namespace in a multi-user Kubeflow.")]
KubeContext = Annotated[
    str | None,
    typer.Option(help="Context of ~/.kube/config, for what Kubeflow does not tell. Default: the current one."),
]
PodFile = Annotated[Path | None, typer.Option("--pods", help="Pod settings, YAML; see studies/pods/.")]


def study_run(
    spec: Spec,
    out: Annotated[
        str | None,
        typer.Option(callback=output_folder, help="Directory of the study, or s3://BUCKET/PREFIX. Default: out/NAME."),
    ] = None,
    runner: Annotated[
        Literal["subprocess", "docker"], typer.Option(help="How kfp.local runs the components.")
    ] = "subprocess",
    image: Image = None,
    include_forecasts: IncludeForecasts = False,
    tracking_uri: Tracking = None,
) -> None:
    """Run a whole study on this machine, with the pipeline that a cluster runs. Run again, it resumes after a stop.

    \b
    Example:
      playscale study run studies/smoke.yaml --out out/smoke
    """
    from playscale.cli.console import show
    from playscale.cli.study_console import show_result, study_progress
    from playscale.study.local_run import LocalStudy
    from playscale.study.spec import read_spec

    if runner == "docker":
        _use(image)
        from playscale_pipelines.containers import check

        read_spec(spec)
        check(read_text(spec))
    study = LocalStudy.open(spec, out, tracking_uri, runner, include_forecasts=include_forecasts)
    runs = study.spec.runs().values()
    budgets = {budget for run in runs for budget in run.cells}
    show(f"study {study.spec.name}: {len(runs)} training runs, {len(budgets)} budgets, in {study.uri}")
    with study_progress(study.spec.name) as on_progress:
        result = study.run(on_progress)
    show_result(study, result)
    if result.failed:
        raise RuntimeError(f"{result.complaint} (log: {study.folder / 'pipeline.log'})")


def study_fit(
    out: Annotated[str, typer.Argument(help="Directory of the study, or s3://BUCKET/PREFIX.")],
    spec: Annotated[
        Path | None, typer.Option(help=f"Specification of the study. Default: OUT/{SPEC}, with which it was planned.")
    ] = None,
    include_forecasts: IncludeForecasts = False,
    tracking_uri: Tracking = None,
) -> None:
    """Fit the laws to what a study has made so far, whatever failed, and write its report: the study's last step.

    \b
    Example:
      playscale study fit s3://playscale/studies/smoke --tracking-uri http://localhost:5000
    """
    from playscale.cli.console import fit_tables, points_table, show
    from playscale.study import steps
    from playscale.study.context import default_tracking_uri
    from playscale.study.local_run import read_results
    from playscale.study.spec import read_spec
    from playscale.study.study_process import at_work
    from playscale.tracking.uris import check_uri

    place = out.rstrip("/") if is_s3(out) else str(local_path(out).resolve())
    uri = tracking_uri or default_tracking_uri(place)
    check_uri(uri)
    with workspace(place, "plan.json", SPEC, store=False) as folder:
        if not (folder / "plan.json").is_file():
            raise ValueError(f"{out}: no study was planned there: it has no plan.json")
        planned = spec or folder / SPEC
        if not planned.is_file() and spec is None:
            raise ValueError(f"{out}: an earlier version planned this study and kept no {SPEC}; give its --spec")
        read_spec(planned)
        text = read_text(planned)
    with nullcontext() if is_s3(place) else at_work(Path(place)):
        result = steps.fit(text, place, uri, include_forecasts=include_forecasts)
    points, fitted = read_results(place)
    show(points_table(points), *fit_tables(fitted), f"report:  {result.report}")


def study_submit(
    spec: Spec,
    endpoint: Annotated[str, typer.Option(help="URL of the Kubeflow Pipelines server.")],
    image: Image = None,
    out: Annotated[
        str | None, typer.Option(callback=named, help=f"Directory of the study in S3. Default: {BUCKET}/NAME.")
    ] = None,
    pods: PodFile = None,
    tracking_uri: Annotated[str, typer.Option(help="URI of the MLflow server. Default: from the pod settings.")] = "",
    experiment: Annotated[
        str | None, typer.Option(callback=named, help="Kubeflow experiment. Default: the study's name.")
    ] = None,
    namespace: Namespace = None,
    service_account: Annotated[str, typer.Option(help="Service account of the pods.")] = "playscale-pipeline",
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the study until its end; fail if it fails, with the reasons.")
    ] = False,
    resubmit: Annotated[
        int,
        typer.Option(min=0, help="With --wait: submit again so many times if the run fails; finished work is kept."),
    ] = 0,
    include_forecasts: IncludeForecasts = False,
    kube_context: KubeContext = None,
) -> None:
    """Compile a study's pipeline, submit it to Kubeflow Pipelines, and print the address of the run.

    With --wait it shows which parts of the study are done, which runs are at work, why a step waits, and of a step that
    failed the reason, the end of its log and the command that prints the rest.

    \b
    Example:
      playscale study submit studies/smoke.yaml --endpoint http://localhost:8888 --wait
    """
    submit_pipeline(
        "study",
        spec,
        {"include_forecasts": True} if include_forecasts else {},
        endpoint=endpoint,
        image=image,
        out=out,
        pods=pods,
        tracking_uri=tracking_uri,
        experiment=experiment,
        namespace=namespace,
        service_account=service_account,
        wait=wait,
        resubmit=resubmit,
        kube_context=kube_context,
    )


def submit_pipeline(
    pipeline: str,
    spec: Path,
    parameters: Mapping[str, Any],
    *,
    endpoint: str,
    image: str | None,
    out: str | None,
    pods: Path | None,
    tracking_uri: str,
    experiment: str | None,
    namespace: str | None,
    service_account: str,
    wait: bool,
    resubmit: int,
    kube_context: str | None,
) -> None:
    """Submit a pipeline of a study with further parameters: see `study submit`."""
    from playscale.study.spec import read_spec

    if resubmit and not wait:
        raise ValueError("--resubmit: how a run ends is seen with --wait only; give that, too")
    study = read_spec(spec)
    place = out or f"{BUCKET}/{study.name}"
    for name, uri in {"--out": place, **study.inputs()}.items():
        if "://" not in uri:
            raise ValueError(f"{name}: {uri} is a path of this machine, which no pod can see; give s3://BUCKET/PREFIX")
    if tracking_uri and not tracking_uri.startswith(("http://", "https://")):
        raise ValueError(f"--tracking-uri: {tracking_uri} is no server, which pods can reach; give http://HOST:PORT")
    _use(image)
    from playscale.cli.study_console import cluster_progress
    from playscale_pipelines.compile import read_pods
    from playscale_pipelines.submit import reach, submit
    from playscale_pipelines.watch import RunFailedError, explain, watch

    settings = read_pods(pods)
    server = reach(endpoint, namespace, kube_context)
    arguments = {"spec": read_text(spec), "out": place, "tracking_uri": tracking_uri, **parameters}
    for left in range(resubmit, -1, -1):
        run = submit(server, arguments, settings, experiment or study.name, service_account, pipeline)
        echo(f"submitted: {server.url(run)}\nwrites to: {place}")
        if not wait:
            return
        try:
            with cluster_progress(study.name, partial(explain, server, run)) as show:
                watch(server, run, study, show)
        except RunFailedError as error:
            if not left:
                raise
            log.warning("%s; submitting it again, %d of %d", error, resubmit - left + 1, resubmit)
        else:
            echo("succeeded")
            return


def study_logs(
    study: Annotated[
        str, typer.Argument(metavar="RUN|OUT", help="Id of a run in Kubeflow, or the study's directory in S3.")
    ],
    endpoint: Annotated[str, typer.Option(help="URL of the Kubeflow Pipelines server.")],
    step: Annotated[str | None, typer.Option(help="Only this step: train, evaluate, ...")] = None,
    run: Annotated[str | None, typer.Option(help="Only this training run, by name.")] = None,
    namespace: Namespace = None,
    kube_context: KubeContext = None,
) -> None:
    """Print the logs of a submitted study's pods, also of those that are gone.

    Of a study submitted more than once, OUT stands for the newest run in Kubeflow.

    \b
    Example:
      playscale study logs s3://playscale/studies/smoke --endpoint http://localhost:8888 --step train
    """
    if Path(study).is_dir():
        raise ValueError(f"{study}: a study on this machine; its log is {study}/pipeline.log")
    from playscale_pipelines.submit import reach
    from playscale_pipelines.watch import pod_logs, run_of, steps_of

    server = reach(endpoint, namespace, kube_context)
    run_id = run_of(server, study)
    begun = steps_of(server, run_id)
    chosen = [one for one in begun if step in {None, one.component} and (run is None or run in one.runs)]
    if not chosen:
        raise ValueError(f"{study}: no such step; there are: {', '.join(one.title for one in begun) or 'none yet'}")
    for log in pod_logs(server, run_id, chosen):
        echo(log)


def study_status(
    study: Annotated[
        str,
        typer.Argument(metavar="OUT|RUN", help="Directory of the study, s3://BUCKET/PREFIX, or a run in Kubeflow."),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it until the study ends; exit 1 unless finished.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch a line whenever it changes.")
    ] = False,
    endpoint: Annotated[str | None, typer.Option(help="URL of the Kubeflow Pipelines server it runs on.")] = None,
    namespace: Namespace = None,
    kube_context: KubeContext = None,
) -> None:
    """Show how far a study is: what is done, at work and failed, how long yet, its result and its report.

    It only reads what the steps leave: it locks nothing and writes nothing, and works during a run, after a kill and
    when all is done.

    \b
    Example:
      playscale study status out/quickstart --watch
      playscale study status s3://playscale/studies/smoke --endpoint http://localhost:8888
    """
    from playscale.cli.study_status import check_place, cluster_status, follow, print_status, status_of

    if endpoint is None:
        check_place(study)
        if watch:
            follow(study, as_json=as_json)
        else:
            print_status(status_of(study), as_json=as_json)
        return
    if not is_s3(study) and Path(study).exists():
        raise ValueError(f"{study}: a study on this machine; leave out --endpoint")
    from playscale.cli.study_console import cluster_progress
    from playscale_pipelines.submit import reach
    from playscale_pipelines.watch import RunFailedError, explain, look
    from playscale_pipelines.watch import watch as watch_run

    server = reach(endpoint, namespace, kube_context)
    run, failure = look(server, study), None
    status = partial(cluster_status, run.out, run.spec.name, run.budget, url=server.url(run.id))

    def print_line(progress: ClusterProgress) -> None:
        print_status(status("RUNNING", progress, read=False), as_json=True)

    if watch:
        shown = (
            nullcontext(print_line) if as_json else cluster_progress(run.spec.name, partial(explain, server, run.id))
        )
        try:
            with shown as show:
                watch_run(server, run.id, run.spec, show)
        except RunFailedError as error:
            failure = error
        run = look(server, run.id)
    print_status(status(run.state, run.progress), as_json=as_json)
    if failure:
        raise failure


def study_list(
    where: Annotated[
        str,
        typer.Argument(
            metavar="DIR|MLFLOW", help="Directory or s3://BUCKET/PREFIX, mlflow:[EXPERIMENT], or a tracking URI."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    tracking_uri: Tracking = None,
) -> None:
    """List the studies below a directory or of a tracking store: state, points, last change, best result.

    \b
    Example:
      playscale study list out
      playscale study list mlflow: --tracking-uri http://localhost:5000
    """
    from playscale.cli.study_status import print_list
    from playscale.study.studies import studies_below, studies_tracked, tracking_place

    if store := tracking_place(where, tracking_uri):
        print_list(studies_tracked(*store), where, as_json=as_json)
        return
    if tracking_uri:
        raise ValueError(f"--tracking-uri: {where} is no mlflow:EXPERIMENT; give mlflow: for all of the store")
    print_list(studies_below(where), where, as_json=as_json)


def compile_pipelines(
    out: OutFolder = "pipelines/compiled",
    image: Image = None,
    pods: PodFile = None,
) -> None:
    """Compile the pipelines to YAML for Kubeflow Pipelines.

    \b
    Example:
      playscale compile --out compiled --image registry.example.org/playscale:0.2.0
    """
    _use(image)
    from playscale_pipelines.compile import PIPELINES, compile_pipeline, read_pods

    settings = read_pods(pods)
    for name in PIPELINES:
        echo(compile_pipeline(local_path(out), settings, name))


def _use(image: str | None) -> None:
    """Set the image, which components read when they are imported."""
    if image:
        os.environ["PLAYSCALE_IMAGE"] = image
