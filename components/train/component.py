"""KFP component: train one model through all its budgets."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(spec: str, run: str, out: str, tracking_uri: str) -> str:
    """Train a run or a group of runs. Return the directory of the checkpoints."""
    from playscale.study import steps

    return steps.train(spec, run, out, tracking_uri)
