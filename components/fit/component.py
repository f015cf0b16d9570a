"""KFP component: fit the laws to everything the study's experiment holds, and write the report."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fit(
    spec: str,
    evaluated: list,
    taught: list,
    out: str,
    tracking_uri: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """`evaluated` and `taught` only say what must be done before. Returns the path of the report."""
    from pathlib import Path

    from playscale.study import steps

    result = steps.fit(spec, out, tracking_uri)
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
    Path(report.path).write_text(result.page, encoding="utf-8")
    return result.report
