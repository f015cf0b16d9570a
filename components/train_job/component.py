"""KFP component: train one model by a TrainJob, which it makes and follows. Its task is named as that of `train`."""

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(spec: str, run: str, out: str, tracking_uri: str, gpus: str, gpu_type: str, job: str) -> str:
    """Train a run by a TrainJob. Return the directory of the checkpoints."""
    from playscale.study import train_job

    return train_job.train_by_job(spec, run, out, tracking_uri, gpus, gpu_type, job)
