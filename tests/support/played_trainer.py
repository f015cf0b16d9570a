"""What tests put in place of Kubeflow Trainer: a CRD of its TrainJobs, and the pods that it would make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from kubeflow_trainer_api import models

RUNTIME = Path(__file__).parents[2] / "k8s/train/runtime/runtime.yaml"
NAME = "trainjobs.trainer.kubeflow.org"


def train_job_crd() -> dict[str, Any]:
    """Return a CRD of TrainJobs, with the fields and types of Kubeflow Trainer's models, but without its rules."""
    schema = models.TrainerV1alpha1TrainJob.model_json_schema()
    whole = structural(schema, schema["$defs"])
    whole["properties"]["metadata"] = {"type": "object"}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": whole}}
    plural, _, group = NAME.partition(".")
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "TrainJob", "listKind": "TrainJobList", "plural": plural, "singular": "trainjob"},
            "versions": [version | {"subresources": {"status": {}}}],
        },
    }


def structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema of pydantic as a CRD may have it: in one piece, without alternatives."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if options := [one for one in schema.get("anyOf", schema.get("allOf", ())) if one.get("type") != "null"]:
        return structural(options[0], definitions) if len(options) == 1 else {"x-kubernetes-int-or-string": True}
    kind, properties, more = schema["type"], schema.get("properties", {}), schema.get("additionalProperties")
    if "one_of_schemas" in properties:  # a number or a text, in these models
        return {"x-kubernetes-int-or-string": True}
    if kind == "array":
        return {"type": kind, "items": structural(schema["items"], definitions)}
    if kind != "object":
        return {"type": kind}
    if isinstance(more, dict):
        return {"type": kind, "additionalProperties": structural(more, definitions)}
    parts = {name: structural(one, definitions) for name, one in properties.items()}
    any_field = {} if parts else {"x-kubernetes-preserve-unknown-fields": True}
    return {"type": kind, "properties": parts, "required": schema.get("required", []), **any_field}


def played_pod(job: dict[str, Any], account: str, command: list[str] | None = None) -> dict[str, Any]:
    """Return the pod that Kubeflow Trainer would make of a TrainJob, with `command` in place of its own.

    The account is that of the release under test, and no priority class has to be there.
    """
    runtime = yaml.safe_load(RUNTIME.read_text(encoding="utf-8"))
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod, trainer = replicated["template"]["spec"]["template"], job["spec"]["trainer"]
    (patch,) = job["spec"]["runtimePatches"]
    (patched,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    own = patched["template"]["spec"]["template"]
    place = {"NNODES": "1", "NPROC_PER_NODE": str(trainer["numProcPerNode"]), "NODE_RANK": "0"}
    place |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}
    (container,) = pod["spec"]["containers"]
    container |= {
        "image": trainer["image"],
        "command": command or trainer["command"],
        "env": [*trainer["env"], *({"name": f"PET_{key}", "value": value} for key, value in place.items())],
        "resources": trainer["resourcesPerNode"],
    }
    del pod["spec"]["priorityClassName"]
    metadata = {key: job["metadata"][key] for key in ("name", "uid")}
    owner = metadata | {"apiVersion": job["apiVersion"], "kind": job["kind"]}
    labels = pod["metadata"]["labels"] | own["metadata"]["labels"] | {"jobset.sigs.k8s.io/jobset-name": owner["name"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{owner['name']}-node-0-0-{owner['uid'][:5]}",
            "namespace": job["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": pod["spec"] | own.get("spec", {}) | {"serviceAccountName": account},
    }
