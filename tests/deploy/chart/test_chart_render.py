"""Every example: linted, rendered, and valid in the schemas of three Kubernetes versions."""

import json

import helm_python
import kubernetes_validate
import pytest
import yaml
from rendered import CHART, EXAMPLES, GIVEN, example, merged, render, texts

VERSIONS = ("1.35", "1.36", "1.37")
CUSTOM = {"PodMonitor", "PrometheusRule", "HTTPRoute"}  # Kubernetes has no schema of these kinds of others
HOOKS = {
    "podLabels": {"team": "games"},
    "extraEnv": [{"name": "A", "value": "b"}, {"name": "HOME", "value": "/other"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "initContainers": [{"name": "first", "image": "first"}],
    "sidecars": [{"name": "beside", "image": "beside"}],
    "podSecurityContext": {"runAsUser": 4000},
    "containerSecurityContext": {"runAsGroup": 4000},
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "livenessProbe": {"periodSeconds": 60},
}
EVERYTHING = merged(
    example("production"),
    {"pipeline": {"upload": {"token": True, "pods": {"every": {"retries": 1}}}}},
    {"mlflow": {"tolerations": [{"key": "a", "operator": "Exists"}], "nodeSelector": {"a": "b"}, "extraArgs": ["--y"]}},
    {"mlflow": {"presignedUrls": True}, "networkPolicy": {"dnsPort": 5353, "dnsAddresses": ["fd00::a", "10.96.0.10"]}},
    {"networkPolicy": {"mlflowFrom": [{"namespaceSelector": {}}], "pipelineEgress": [{"ports": [{"port": 1}]}]}},
    {"ingress": {"enabled": True, "hosts": ["other.example"]}},
    {"mlflow": {"auth": {"enabled": True, "existingSecret": "admin"}, "existingLogin": "login"}},
    {"mlflow": {"oidc": {"enabled": False}}, "s3": {"checksums": "when_required"}},
    {"mlflow": HOOKS | {"gc": {"enabled": True}, "autoscaling": {"enabled": True}}},
    {"postgres": {"sslMode": "verify-full", "caSecret": "ca", "backup": {"enabled": True, "uid": 999}}},
)
OIDC = {"enabled": True, "issuer": "https://login.example", "existingSecret": "oidc", "emailDomains": ["lab.example"]}
EXTERNAL_MLFLOW = merged(
    GIVEN, {"mlflow": {"deploy": False, "trackingUri": "https://mlflow.example", "existingLogin": "login"}}
)
CASES = {name: example(name) for name in EXAMPLES} | {
    "least": GIVEN,
    "everything": EVERYTHING,
    "oidc": merged(GIVEN, {"mlflow": {"oidc": OIDC | {"allowedGroups": ["a"], "extraArgs": ["--b"]}}}),
    "external": EXTERNAL_MLFLOW,
}


@pytest.mark.parametrize("case", CASES)
def test_chart_passes_helm_lint(case):
    found = helm_python.lint(CHART, CASES[case], strict=True, kube_version=f"v{VERSIONS[-1]}.0")
    assert found["errors"] == []
    assert found["messages"] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_every_document_is_valid(case, version):
    documents = render(CASES[case])
    known = [document for document in documents if document["kind"] not in CUSTOM]
    assert len(known) > 10
    for document in known:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_document_is_found():
    document = render(GIVEN)[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document | {"speck": {}}, VERSIONS[0], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_two_renders_are_one(case):
    assert texts(CASES[case]) == texts(CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_notes_of_the_release_name_its_services(case):
    (notes,) = [text for path, text in texts(CASES[case]).items() if path.endswith("NOTES.txt")]
    assert "helm -n space test playscale" in notes
    assert ("no backup" in notes) == (case not in {"production", "everything"})
    assert "<no value>" not in notes


def test_no_object_is_there_twice():
    for values in CASES.values():
        seen = [(d["kind"], d["metadata"]["namespace"], d["metadata"]["name"]) for d in render(values)]
        assert sorted(set(seen)) == sorted(seen)


def _objects(schema, path="values"):
    """Every schema of an object in a schema, with its path."""
    if schema.get("type") == "object":
        yield path, schema
    for key, inner in (schema.get("properties", {}) | schema.get("$defs", {})).items():
        yield from _objects(inner, f"{path}.{key}")
    if isinstance(schema.get("items"), dict):
        yield from _objects(schema["items"], f"{path}[]")


def test_the_schema_knows_every_value_and_refuses_others():
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    open_ones = {path for path, s in _objects(schema) if s.get("additionalProperties", True) is True}
    kubernetes_own = {"podSelector", "namespaceSelector", "ipBlock", "nodeAffinity", "podAffinity", "podAntiAffinity"}
    kubernetes_own |= {"podSecurityContext", "containerSecurityContext"}
    kubernetes_own |= {"startupProbe", "livenessProbe", "readinessProbe"}
    kubernetes_own |= {"named", "mount", "spread"}  # parts of containers and volumes, of which some keys are checked
    # `pods` is checked by playscale itself, when the Job compiles
    assert {path.rpartition(".")[2] for path in open_ones} == kubernetes_own | {"global", "pods"}

    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(node, value, path):
        if "properties" not in node:
            return
        assert set(node["properties"]) - {"global"} == set(value), path
        for key, inner in value.items():
            if isinstance(inner, dict):
                compare(node["properties"][key], inner, f"{path}.{key}")

    compare(schema, values, "values")
