"""Settings of the pods of a compiled study, which `playscale compile --pods FILE` reads from YAML.

Two settings are elsewhere: the service account belongs to a run (`study submit --service-account`), and Kubeflow's own
compiler sets capabilities, privilege escalation and seccomp.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel
from pydantic import BeforeValidator, Field, model_validator

from playscale.config import FrozenModel
from playscale_components.image import IMAGE

Cpu = Annotated[str, BeforeValidator(str), Field(pattern=r"^\d+(\.\d+)?$|^\d+m$")]
Memory = Annotated[str, BeforeValidator(str), Field(pattern=r"^\d+(Ki|Mi|Gi|Ti|K|M|G|T)$")]
TRACKING = ("MLFLOW_TRACKING_URI",)
SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "PLAYSCALE_METRICS_PORT",
    "PLAYSCALE_KFP_URL",
)
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
OWN_POD = {"POD_NAME": "metadata.name", "POD_UID": "metadata.uid", "POD_NAMESPACE": "metadata.namespace"}
MANAGER = "playscale/study"  # of a patch of a TrainingRuntime: Kubeflow Trainer takes a domain and a path alone
QUEUE = "kueue.x-k8s.io/queue-name"
COMPONENTS = ("collect", "prepare", "plan", "train", "evaluate", "fit", "check", "forecast")


class Toleration(FrozenModel):
    """A taint that the pod tolerates."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Pod(FrozenModel):
    """Settings of one component's pods.

    Attributes:
        cpu: CPU request and limit. A step starts a worker for each core.
        memory: Memory request and limit.
        gpus: Number of GPUs.
        gpu_type: Resource name of the GPUs.
        shared_memory: Size of /dev/shm, which is part of `memory`.
        node_selector: Labels of the nodes that the pods may run on.
        tolerations: Taints that the pods tolerate.
        retries: Retries after a failure or an eviction; none of `check`.
        backoff: Seconds before the first retry; each later one waits twice as long.
        hours: Hours after which a pod is ended.
    """

    cpu: Cpu = "2"
    memory: Memory = "4Gi"
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    shared_memory: Memory | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    retries: int = Field(default=2, ge=0)
    backoff: int = Field(default=30, ge=0)
    hours: float = Field(default=24, gt=0)


class TrainJob(FrozenModel):
    """Settings of the TrainJobs of Kubeflow Trainer that train the runs.

    Attributes:
        runtime: Name of the TrainingRuntime, in the namespace of the pipelines.
        queue: Name of Kueue's LocalQueue that a TrainJob waits in; none: it starts at once.
    """

    runtime: str = "playscale-torch"
    queue: str | None = None


class TrainPod(Pod):
    """Settings of the training pods.

    Attributes:
        together: Runs that one pod trains, and another evaluates, one after the other.
        trainjob: Each run is trained by a TrainJob, whose pod the other settings are of; none: by the step's pod.
    """

    together: int = Field(default=1, ge=1)
    trainjob: TrainJob | None = None

    @model_validator(mode="after")
    def _one_run_a_job(self) -> "TrainPod":
        if self.trainjob and self.together > 1:
            raise ValueError("together: a TrainJob trains one run; leave out together or trainjob")
        return self


FOLLOWER = Pod(cpu="250m", memory="512Mi", hours=24 * 365)
"""The step's pod where a TrainJob trains: it waits. The time that a TrainJob spends in a queue has no limit."""


class Pods(FrozenModel):
    """Settings of all pods of a study, by component and shared. In YAML, `every` holds defaults of all components.

    Attributes:
        settings: Name of the ConfigMap whose keys become environment variables, if it exists.
        credentials: Name of the Secret whose keys become environment variables, if it exists.
        login: Name of the Secret with the login at MLflow, whose keys become environment variables, if it exists.
        mlflow: `settings`: address and login of MLflow come from `settings` and `login`. `kubeflow`: Kubeflow's MLflow
            plugin sets them (`injectUserEnvVars`), and a pod is to have each variable once.
        labels: Labels of all pods.
        image_pull_policy: When the image is pulled.
        image_pull_secrets: Names of the Secrets with which the image is pulled.
        run_as_user: User id of the containers.
    """

    collect: Pod = Pod(cpu="4")
    prepare: Pod = Pod()
    plan: Pod = Pod(cpu="1", memory="2Gi")
    train: TrainPod = TrainPod(cpu="4", memory="8Gi", shared_memory="1Gi")
    evaluate: Pod = Pod(cpu="4", memory="8Gi", shared_memory="1Gi")
    fit: Pod = Pod()
    check: Pod = Pod(cpu="1", memory="2Gi")
    forecast: Pod = Pod()
    settings: str = "playscale-settings"
    credentials: str = "playscale-s3"
    login: str = "playscale-login"
    mlflow: Literal["settings", "kubeflow"] = "settings"
    labels: dict[str, str] = Field(default_factory=dict)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    run_as_user: int = Field(default=10001, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        """Merge: a component's keys override those of `every`, which override the component's defaults."""
        if not isinstance(given, dict):
            return given
        every = given.get("every", {})
        rest = {key: value for key, value in given.items() if key != "every"}
        for name in COMPONENTS:
            own = rest.get(name, {})
            if isinstance(own, dict) and isinstance(every, dict):
                rest[name] = cls.model_fields[name].default.model_dump() | every | own
        return rest

    @model_validator(mode="after")
    def _mlflow_is_known_to_a_job(self) -> "Pods":
        if self.train.trainjob and self.mlflow == "kubeflow":
            raise ValueError("mlflow: Kubeflow's plugin sets nothing in the pods of TrainJobs; let it be settings")
        return self

    def apply(self, task: dsl.PipelineTask, component: str, gpus: PipelineChannel | None = None) -> None:
        """Apply the settings to a task. `gpus`, a parameter of the pipeline, overrides the pod's own number."""
        pod: Pod = getattr(self, component)
        if follows := component == "train" and self.train.trainjob is not None:
            pod, gpus = FOLLOWER.model_copy(update={"retries": pod.retries, "backoff": pod.backoff}), None
        _resources(task, pod, gpus)
        _placement(task, pod)
        for kind, source, keys in self._sources():
            use = kubernetes.use_config_map_as_env if kind == "configMap" else kubernetes.use_secret_as_env
            use(task, source, {key: key for key in keys}, optional=True)
        kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
        if follows:
            for name, path in OWN_POD.items():
                kubernetes.use_field_path_as_env(task, name, path)
        for key, value in self._labels(component).items():
            kubernetes.add_pod_label(task, key, value)
        kubernetes.set_image_pull_policy(task, self.image_pull_policy)
        if self.image_pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(self.image_pull_secrets))
        kubernetes.set_security_context(task, run_as_user=self.run_as_user, run_as_group=0, run_as_non_root=True)

    def train_job(self) -> str:
        """Return the TrainJob of a run (JSON), without what its step adds: see playscale/study/train_job.py.

        It is "" where the step's pod trains.
        """
        if (job := self.train.trainjob) is None:
            return ""
        labels = self._labels("train")
        queued = labels | ({QUEUE: job.queue} if job.queue else {})
        own = {
            "metadata": {"labels": {key: value for key, value in labels.items() if key != QUEUE}},
            "spec": _pod_spec(self),
        }
        template = {"spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": own}}}]}}
        resources = {"cpu": self.train.cpu, "memory": self.train.memory}
        spec = {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "TrainingRuntime",
                "name": job.runtime,
            },
            "activeDeadlineSeconds": round(3600 * self.train.hours),
            "trainer": {
                "image": IMAGE,
                "numNodes": 1,
                "env": [{"name": "OMP_NUM_THREADS", "value": _threads(self.train)}, *self._environment()],
                "resourcesPerNode": {"requests": resources, "limits": resources},
            },
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": {"template": template}}],
        }
        kind = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"}
        return json.dumps(kind | {"metadata": {"labels": queued}, "spec": spec})

    def _labels(self, component: str) -> dict[str, str]:
        return {"app.kubernetes.io/part-of": "playscale", "app.kubernetes.io/component": component} | self.labels

    def _sources(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield the ConfigMap and the Secrets, each with its kind and the keys that become environment variables."""
        own = self.mlflow == "settings"
        yield "configMap", self.settings, TRACKING + SETTINGS if own else SETTINGS
        yield "secret", self.credentials, CREDENTIALS
        if own:
            yield "secret", self.login, LOGIN

    def _environment(self) -> Iterator[dict[str, Any]]:
        """Yield the environment variables of a container that is no step's, as Kubernetes names them."""
        for kind, source, keys in self._sources():
            for key in keys:
                reference = {"name": source, "key": key, "optional": True}
                yield {"name": key, "valueFrom": {f"{kind}KeyRef": reference}}


def _pod_spec(pods: Pods) -> dict[str, Any]:
    """Return what the settings change in the pod of a TrainingRuntime."""
    given = {
        "nodeSelector": pods.train.node_selector,
        "tolerations": [one.model_dump(exclude_none=True) for one in pods.train.tolerations],
        "imagePullSecrets": [{"name": name} for name in pods.image_pull_secrets],
    }
    return {key: value for key, value in given.items() if value}


def _resources(task: dsl.PipelineTask, pod: Pod, gpus: PipelineChannel | None) -> None:
    task.set_cpu_request(pod.cpu).set_cpu_limit(pod.cpu)
    task.set_memory_request(pod.memory).set_memory_limit(pod.memory)
    if gpus is not None:
        task.register_pipeline_channels([gpus])  # the limit alone would not bring it into the loop
    if gpus is not None or pod.gpus:
        task.set_accelerator_type(pod.gpu_type).set_accelerator_limit(pod.gpus if gpus is None else gpus)
    if pod.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=pod.shared_memory)  # noqa: S108
    task.set_env_variable("OMP_NUM_THREADS", _threads(pod))


def _threads(pod: Pod) -> str:
    """Return the number of torch's threads, which would count the node's cores."""
    cores = int(pod.cpu[:-1]) // 1000 if pod.cpu.endswith("m") else int(float(pod.cpu))
    return str(max(1, cores))


def _placement(task: dsl.PipelineTask, pod: Pod) -> None:
    """Set the nodes, the time limit and the retries."""
    for key, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in pod.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    seconds = round(3600 * pod.hours)
    kubernetes.set_timeout(task, seconds)
    # The longest time counts from the first start: with Kubeflow's hour, a run of two hours would not be retried. A
    # number of 0 is said, too: a step that says none has Argo's own, which k8s/argo/retries.yaml makes two.
    longest = f"{seconds * (pod.retries + 1)}s"
    task.set_retry(pod.retries, f"{pod.backoff}s", backoff_factor=2.0, backoff_max_duration=longest)
