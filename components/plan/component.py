"""KFP component: which runs of the grid are trained."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(spec: str, corpus: str, out: str, tracking_uri: str) -> list:
    """Returns the names of the training runs, smallest first."""
    from playscale import steps

    return steps.plan(spec, corpus, out, tracking_uri)
