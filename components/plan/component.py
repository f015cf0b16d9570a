"""KFP component: which runs of the grid are trained."""

from typing import Optional

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(spec: str, corpus: str, out: str, tracking_uri: str, trained: Optional[list] = None) -> list:  # noqa: UP045
    """Returns names of runs: those without a teacher; once they are `trained`, those with one and the references."""
    from playscale.study import steps

    return steps.plan(spec, corpus, out, tracking_uri, trained)
