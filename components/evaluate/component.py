"""KFP component: play every checkpoint of a run, or the references."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(spec: str, run: str, checkpoints: str, out: str, tracking_uri: str) -> str:
    """Plays `checkpoints`, a directory of them ("" for the references). Returns the directory of the results."""
    from playscale.study import steps

    return steps.evaluate(spec, run, checkpoints, out, tracking_uri)
