"""What the acceptance test puts in place of Kubeflow Trainer: its CRD, and the pods that it would make."""

import copy
import json

import jsonschema
import kubernetes_validate
import pytest
from played_trainer import played_pod, train_job_crd

from playscale.study import train_job
from playscale_pipelines.pods import Pods

SPEC = "{name: mine, game: nethack, source: {corpus: s3://c}, sizes: [1M], budgets: [1e9, 2e9]}"


@pytest.fixture
def job(monkeypatch):
    """The TrainJob of a study, as the API server returns it."""
    for name in train_job.POD:
        monkeypatch.setenv(name, name.lower().replace("_", "-"))
    template = json.loads(
        Pods.model_validate({"train": {"trainjob": {}, "node_selector": {"pool": "spot"}}}).train_job()
    )
    whole = train_job.complete(template, [SPEC, "bc-lstm-1m-s0", "s3://b/mine", ""], 2, "nvidia.com/gpu")
    whole["metadata"]["uid"] = "0c2d6f7e-1111"
    return whole


def closed(schema):
    """A schema that refuses what it does not know, as the API server does when it is asked to."""
    if isinstance(schema, dict):
        strict = {key: closed(value) for key, value in schema.items()}
        known = "properties" in strict and not strict.get("x-kubernetes-preserve-unknown-fields")
        return strict | ({"additionalProperties": False} if known and strict.get("type") == "object" else {})
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


def test_the_crd_is_valid_takes_the_train_job_of_a_study_and_refuses_a_wrong_one(job):
    crd = train_job_crd()
    kubernetes_validate.validate(crd, "1.35", strict=True)
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    assert "$ref" not in json.dumps(schema)
    schema = closed(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(job, schema)
    wrong = copy.deepcopy(job)
    wrong["spec"]["trainer"]["numProcPerNode"] = "two"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)
    unknown = copy.deepcopy(job)
    unknown["spec"]["trainer"]["nodes"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(unknown, schema)


def test_the_pod_is_valid_and_starts_what_the_train_job_says(job):
    pod = played_pod(job, "acceptance-pipeline")
    kubernetes_validate.validate(pod, "1.35", strict=True)
    (container,) = pod["spec"]["containers"]
    assert container["command"] == job["spec"]["trainer"]["command"]
    assert {"name": "PET_NPROC_PER_NODE", "value": "2"} in container["env"]
    assert pod["spec"]["nodeSelector"] == {"pool": "spot"}
    assert pod["metadata"]["labels"]["jobset.sigs.k8s.io/jobset-name"] == job["metadata"]["name"]
