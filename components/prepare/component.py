"""KFP component: recordings into a corpus. The corpus travels as a URI, never as a copied artifact."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(spec: str, games: str, out: str) -> str:
    """Returns the URI of the corpus."""
    from playscale.study import steps

    return steps.prepare(spec, games, out)
