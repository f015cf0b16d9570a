"""KFP component: fit the laws to all points of the study's experiment, and write the report."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fit(
    spec: str,
    out: str,
    tracking_uri: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    include_forecasts: bool = False,
) -> str:
    """Return the path of the report. Runs that failed are left out of the laws, and named."""
    from pathlib import Path

    from playscale.study import steps

    result = steps.fit(spec, out, tracking_uri, include_forecasts=include_forecasts)
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
    Path(report.path).write_text(result.page, encoding="utf-8")
    return result.report
