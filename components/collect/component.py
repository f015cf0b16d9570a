"""KFP component: the expert plays the games of a study."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect(spec: str, out: str) -> str:
    """Returns the directory of recordings, or "" when the study brings a ready corpus."""
    from playscale.study import steps

    return steps.collect(spec, out)
