"""KFP component: plan the training runs of the grid."""

from typing import Optional

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(
    spec: str,
    corpus: str,
    out: str,
    tracking_uri: str,
    trained: Optional[list] = None,  # noqa: UP045
    together: int = 1,
) -> list:
    """Return names of runs: first all but those taught by clones; with a list `trained`, these and the references.

    With `together`, groups of so many runs, as train and evaluate take them.
    """
    from playscale.study import steps

    return steps.plan(spec, corpus, out, tracking_uri, trained, together)
