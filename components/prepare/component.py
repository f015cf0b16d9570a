"""KFP component: convert recordings into a corpus, which is passed on as a URI, not as an artifact."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(spec: str, games: str, out: str) -> str:
    """Return the URI of the corpus."""
    from playscale.study import steps

    return steps.prepare(spec, games, out)
