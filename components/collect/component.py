"""KFP component: let the expert play the games of a study."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect(spec: str, out: str) -> str:
    """Return the directory of recordings, or "" if the study has a corpus already."""
    from playscale.study import steps

    return steps.collect(spec, out)
