"""What an operator of a cluster may add to the server: variables, volumes, containers, contexts, probes, routes."""

import helm_python
import pytest
from rendered import GIVEN, containers, find, merged, names, pods, render
from test_chart_render import HOOKS
from test_chart_templates import DNS, STRANGER, allowed, argument, mlflow, part, variable

HOOKED = merged(GIVEN, {"mlflow": HOOKS})


def pod(values):
    return pods(render(values))["playscale-mlflow"]


def test_variables_volumes_and_containers_are_added():
    found = pod(HOOKED)
    first, migrate = found["spec"]["initContainers"]
    server, beside = found["spec"]["containers"]
    assert (first["name"], migrate["name"], server["name"], beside["name"]) == ("first", "migrate", "mlflow", "beside")
    for container in (migrate, server):
        assert variable(container, "A") == "b"
        assert variable(container, "HOME") == "/other"  # there once: a second one of a name is refused by some clients
        assert container["envFrom"] == HOOKS["extraEnvFrom"]
        assert HOOKS["extraVolumeMounts"][0] in container["volumeMounts"]
    assert HOOKS["extraVolumes"][0] in found["spec"]["volumes"]


def test_contexts_and_probes_change_key_by_key():
    spec = pod(HOOKED)["spec"]
    assert spec["securityContext"]["runAsUser"] == 4000
    assert spec["securityContext"]["runAsNonRoot"] is True
    server = spec["containers"][0]
    assert server["securityContext"] == {
        "runAsGroup": 4000,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert server["livenessProbe"]["periodSeconds"] == 60
    assert server["livenessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    without = pod(
        merged(GIVEN, {"mlflow": {"podSecurityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))}})
    )
    assert set(without["spec"]["securityContext"]) == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}


def test_labels_of_the_chart_go_over_others():
    own = {"app.kubernetes.io/component": "x", "team": "games"}
    labels = pod(merged(GIVEN, {"mlflow": {"podLabels": own}}))["metadata"]["labels"]
    assert labels["team"] == "games"
    assert labels["app.kubernetes.io/component"] == "mlflow"


def test_replicas_are_spread_as_wanted():
    (default,) = pod(GIVEN)["spec"]["topologySpreadConstraints"]
    assert default["topologyKey"] == "kubernetes.io/hostname"
    (wanted,) = pod(HOOKED)["spec"]["topologySpreadConstraints"]
    assert (wanted["topologyKey"], wanted["labelSelector"]) == ("zone", default["labelSelector"])
    affinity = {"podAntiAffinity": {}}
    assert "topologySpreadConstraints" not in pod(merged(GIVEN, {"mlflow": {"affinity": affinity}}))["spec"]


def test_an_autoscaler_sets_the_number_of_pods():
    documents = render(merged(GIVEN, {"mlflow": {"autoscaling": {"enabled": True, "maxReplicas": 7}}}))
    scaler = find(documents, "HorizontalPodAutoscaler", "playscale-mlflow")["spec"]
    server = find(documents, "Deployment", "playscale-mlflow")
    assert "replicas" not in server["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "playscale-mlflow"}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 7)
    assert names(documents, "PodDisruptionBudget") == {"playscale-mlflow"}
    one = {"autoscaling": {"enabled": True, "minReplicas": 1}, "replicas": 3}
    assert names(render(merged(GIVEN, {"mlflow": one})), "PodDisruptionBudget") == set()


# ---- a route of the Gateway API

ROUTE = {"enabled": True, "hosts": ["m.example"], "parentRefs": [{"name": "entrance", "namespace": "gateways"}]}
ROUTED = merged(GIVEN, {"httpRoute": ROUTE, "networkPolicy": {"ingressNamespace": "gateways"}})


def test_a_route_leads_from_the_gateway_to_the_server():
    route = find(render(merged(ROUTED, {"httpRoute": {"requestTimeout": "0s"}})), "HTTPRoute", "playscale-mlflow")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"] == {
        "parentRefs": ROUTE["parentRefs"],
        "hostnames": ["m.example"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": "playscale-mlflow", "port": 5000}],
                "timeouts": {"request": "0s"},
            }
        ],
    }
    server = mlflow(ROUTED)
    assert argument(server, "cors-allowed-origins") == "https://m.example"
    assert "m.example" in argument(server, "allowed-hosts").split(",")
    assert (
        argument(mlflow(merged(ROUTED, {"httpRoute": {"https": False}})), "cors-allowed-origins") == "http://m.example"
    )


def test_pods_of_the_gateway_reach_the_server():
    gateway = ("gateways", {"app": "envoy"})
    assert allowed(render(ROUTED), gateway, part("mlflow"), 5000)
    assert not allowed(render(GIVEN), gateway, part("mlflow"), 5000)
    assert not allowed(render(ROUTED), STRANGER, part("mlflow"), 5000)


@pytest.mark.parametrize("missing", ["hosts", "parentRefs"])
def test_a_route_without_hosts_or_a_gateway_is_refused(missing):
    with pytest.raises(helm_python.HelmRenderError, match="httpRoute: name at least one host") as error:
        render(merged(ROUTED, {"httpRoute": {missing: []}}))
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mlflow": {"extraEnv": [{"value": "b"}]}}, "name"),
        ({"mlflow": {"extraEnvFrom": [{"secret": {"name": "a"}}]}}, "secret"),
        ({"mlflow": {"extraVolumeMounts": [{"name": "a"}]}}, "mountPath"),
        ({"mlflow": {"gc": {"schedule": "daily"}}}, "schedule"),
        ({"mlflow": {"gc": {"olderThan": "a month"}}}, "olderThan"),
        ({"httpRoute": {"requestTimeout": "15 seconds"}}, "requestTimeout"),
        ({"postgres": {"backup": {"keep": 0}}}, "keep"),
    ],
)
def test_hooks_of_a_wrong_form_are_refused(values, said):
    with pytest.raises(helm_python.HelmValuesError, match=said):
        render(merged(GIVEN, values))


# ---- jobs


def test_jobs_reach_what_they_need():
    jobs = {"mlflow": {"gc": {"enabled": True}}, "postgres": {"backup": {"enabled": True}}}
    documents = render(merged(GIVEN, jobs))
    for name in ("gc", "backup"):
        assert allowed(documents, part(name), part("postgres"), 5432)
        assert allowed(documents, part(name), DNS, 53)
        assert not allowed(render(GIVEN), part(name), part("postgres"), 5432)
    assert allowed(documents, part("gc"), part("mlflow"), 5000)
    assert allowed(documents, part("backup"), part("s3"), 9000)
    assert not allowed(documents, part("gc"), part("s3"), 9000)
    assert not allowed(documents, part("backup"), part("mlflow"), 5000)


def test_jobs_are_off_by_default_and_one_never_runs_by_itself():
    assert names(render(GIVEN), "CronJob") == set()
    documents = render(merged(GIVEN, {"postgres": {"backup": {"enabled": True}}}))
    assert names(documents, "CronJob") == {"playscale-backup", "playscale-restore"}
    assert find(documents, "CronJob", "playscale-restore")["spec"]["suspend"] is True
    assert "suspend" not in find(documents, "CronJob", "playscale-backup")["spec"]


def test_pods_of_jobs_are_hardened():
    documents = render(merged(HOOKED, {"mlflow": {"gc": {"enabled": True}}, "postgres": {"backup": {"enabled": True}}}))
    jobs = [d["spec"]["jobTemplate"]["spec"]["template"] for d in documents if d["kind"] == "CronJob"]
    assert len(jobs) == 3
    for job in jobs:
        assert job["spec"]["automountServiceAccountToken"] is False
        assert job["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in containers(job):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
