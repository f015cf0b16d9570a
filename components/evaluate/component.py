"""KFP component: evaluate every checkpoint of a run, or the references."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(spec: str, run: str, checkpoints: str, out: str, tracking_uri: str) -> str:
    """Evaluate the checkpoints of a run, of a group of runs, or the references. Return the directory of the results."""
    from playscale.study import steps

    return steps.evaluate(spec, run, checkpoints, out, tracking_uri)
