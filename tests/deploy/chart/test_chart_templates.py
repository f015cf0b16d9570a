"""What the chart promises, asked of what it renders."""

import copy
import json

import helm_python
import pytest
import yaml
from rendered import CHART, GIVEN, argument, containers, example, find, merged, names, pods, render

from playscale_pipelines.pods import COMPONENTS

STEPS = COMPONENTS
EXTERNAL = {
    "postgres": {"deploy": False, "host": "db.example", "existingSecret": "db"},
    "s3": {"deploy": False, "endpoint": "https://s3.example", "existingSecret": "keys"},
}
CLAIMS = {"PersistentVolumeClaim", "StatefulSet"}


def mlflow(values, **options):
    """The container of the server."""
    (server,) = pods(render(values, **options))["playscale-mlflow"]["spec"]["containers"]
    return server


def variable(container, name):
    (found,) = [v for v in container["env"] if v["name"] == name]
    return found.get("value", found.get("valueFrom"))


# ---- the server


def test_hosts_that_get_an_answer():
    hosts = argument(mlflow(GIVEN), "allowed-hosts").split(",")
    for name in ("playscale-mlflow", "playscale-mlflow.space", "playscale-mlflow.space.svc"):
        assert {name, f"{name}:5000"} <= set(hosts)
    assert "playscale-mlflow.space.svc.cluster.local:5000" in hosts
    assert {"localhost:*", "$(POD_IP):5000"} <= set(hosts)
    assert not [host for host in hosts if host.startswith("*")]
    assert variable(mlflow(GIVEN), "POD_IP") == {"fieldRef": {"fieldPath": "status.podIP"}}


def test_hosts_and_origins_of_the_ingress():
    values = merged(GIVEN, {"ingress": {"enabled": True, "hosts": ["m.example"], "tlsSecret": "t"}})
    values = merged(
        values, {"mlflow": {"allowedHosts": ["proxy.example:*"], "allowedOrigins": ["http://other.example"]}}
    )
    server = mlflow(values)
    assert argument(server, "allowed-hosts").split(",")[-2:] == ["m.example", "proxy.example:*"]
    assert argument(server, "cors-allowed-origins") == "http://other.example,https://m.example"
    plain = merged(values, {"ingress": {"tlsSecret": ""}})
    assert argument(mlflow(plain), "cors-allowed-origins").endswith("http://m.example")
    assert not [a for a in mlflow(GIVEN)["command"] if "origins" in a]


def test_release_and_cluster_may_be_called_otherwise():
    documents = render(merged(GIVEN, {"clusterDomain": "corp"}), name="blue", namespace="there")
    settings = find(documents, "ConfigMap", "playscale-settings", "there")["data"]
    assert settings["MLFLOW_TRACKING_URI"] == "http://blue-playscale-mlflow.there.svc.corp:5000"
    hosts = argument(containers(pods(documents)["blue-playscale-mlflow"])[-1], "allowed-hosts").split(",")
    assert "blue-playscale-mlflow.there.svc.corp:5000" in hosts


def test_the_server_migrates_first_and_stores_in_s3():
    pod = pods(render(GIVEN))["playscale-mlflow"]
    (migrate,) = pod["spec"]["initContainers"]
    assert migrate["command"][:3] == ["mlflow", "db", "upgrade"]
    server = mlflow(GIVEN)
    assert migrate["command"][3] == argument(server, "backend-store-uri")
    assert argument(server, "artifacts-destination") == "s3-proxied://playscale/mlflow"
    direct = merged(EXTERNAL, {"mlflow": {"presignedUrls": True}})
    assert argument(mlflow(direct), "artifacts-destination") == "s3://playscale/mlflow"
    assert "--serve-artifacts" in server["command"]
    assert argument(server, "workers") == "2"
    assert variable(server, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION") == "false"
    assert argument(server, "expose-prometheus").startswith("/tmp/")  # noqa: S108
    assert not [a for a in mlflow(merged(GIVEN, {"mlflow": {"metrics": False}}))["command"] if "prometheus" in a]


def test_no_secret_stands_in_a_pod():
    given = {"postgres": {"password": "Pa55/w@rd"}, "s3": {"accessKey": "ACCESSKEY", "secretKey": "s3cr3t+/"}}
    for name, pod in pods(render(given)).items():
        text = json.dumps(pod)
        assert not [secret for secret in ("Pa55", "ACCESSKEY", "s3cr3t") if secret in text], name


# ---- secrets


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"postgres": {"password": "p"}, "s3": {"accessKey": "a"}}, "s3.secretKey: give one"),
        (merged(GIVEN, {"postgres": {"existingSecret": "e"}}), "postgres.existingSecret: give one of the two"),
        (merged(GIVEN, {"s3": {"existingSecret": "e"}}), "s3.existingSecret: give one of the two"),
        (merged(GIVEN, {"postgres": {"deploy": False}}), "postgres.host: name the external Postgres"),
        (merged(GIVEN, {"ingress": {"enabled": True}}), "ingress.hosts: name at least one host"),
        ({"postgres": {"password": "p"}, "s3": {"ambientCredentials": True}}, "set s3.deploy to false"),
        (merged(GIVEN, {"mlflow": {"presignedUrls": True}}), "set s3.deploy to false"),
    ],
)
def test_missing_values_are_named_in_one_line(values, said):
    with pytest.raises(helm_python.HelmRenderError, match=said) as error:
        render(values)
    assert "\n" not in str(error.value).strip()


def test_existing_secrets_are_used_and_none_is_made():
    documents = render(EXTERNAL)
    assert names(documents, "Secret") == set()
    server = mlflow(EXTERNAL)
    assert variable(server, "PGPASSWORD") == {"secretKeyRef": {"name": "db", "key": "password"}}
    assert variable(server, "AWS_ACCESS_KEY_ID")["secretKeyRef"]["name"] == "keys"
    own = mlflow(merged(EXTERNAL, {"mlflow": {"existingS3Secret": "own"}}))
    assert variable(own, "AWS_SECRET_ACCESS_KEY")["secretKeyRef"]["name"] == "own"
    other_key = mlflow(merged(EXTERNAL, {"postgres": {"existingSecretKey": "pw"}}))
    assert variable(other_key, "PGPASSWORD")["secretKeyRef"]["key"] == "pw"


def test_development_pods_take_existing_secrets_too():
    values = {"postgres": {"existingSecret": "db"}, "s3": {"existingSecret": "keys"}}
    found = pods(render(values))
    assert variable(containers(found["playscale-postgres"])[-1], "POSTGRES_PASSWORD")["secretKeyRef"]["name"] == "db"
    assert variable(containers(found["playscale-s3"])[-1], "AWS_ACCESS_KEY_ID")["secretKeyRef"]["name"] == "keys"


def test_pods_without_keys_rely_on_their_accounts():
    documents = render(example("production"))
    assert names(documents, "Secret") == set()
    env = {v["name"] for c in containers(pods(documents)["playscale-mlflow"]) for v in c["env"]}
    assert not [name for name in env if "ACCESS_KEY" in name]
    for account, space in (("playscale-mlflow", "space"), ("playscale-pipeline", "kubeflow")):
        assert find(documents, "ServiceAccount", account, space)["metadata"]["annotations"]


# ---- what is switched off is not there


def test_external_services():
    documents = render(EXTERNAL)
    assert not [d for d in documents if d["kind"] in CLAIMS]
    assert names(documents, "Service") == {"playscale-mlflow"}
    server = mlflow(EXTERNAL)
    assert (
        argument(server, "backend-store-uri") == "postgresql+psycopg2://mlflow@db.example:5432/mlflow?sslmode=require"
    )
    assert variable(server, "AWS_ENDPOINT_URL") == "https://s3.example"
    aws = merged(EXTERNAL, {"s3": {"endpoint": ""}})
    assert "AWS_ENDPOINT_URL" not in find(render(aws), "ConfigMap", "playscale-settings")["data"]
    assert not [v for v in mlflow(aws)["env"] if "ENDPOINT" in v["name"]]


def test_the_least_release_has_no_extras():
    kinds = {d["kind"] for d in render(GIVEN)}
    assert not kinds & {"Ingress", "PodMonitor", "PrometheusRule", "Job", "PodDisruptionBudget"}
    off = merged(GIVEN, {"networkPolicy": {"enabled": False}})
    off = merged(off, {"pipeline": {"rbac": {"create": False}, "serviceAccount": {"create": False}}})
    kinds = {d["kind"] for d in render(off)}
    assert not kinds & {"NetworkPolicy", "Role", "RoleBinding"}
    assert "playscale-pipeline" not in names(render(off), "ServiceAccount")


def test_volumes_outlive_the_release_or_are_given():
    documents = render(GIVEN)
    for name in ("playscale-postgres", "playscale-s3"):
        claim = find(documents, "PersistentVolumeClaim", name)
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    given = render(merged(GIVEN, {"postgres": {"existingClaim": "mine"}}))
    assert names(given, "PersistentVolumeClaim") == {"playscale-s3"}
    volumes = {v["name"]: v for v in pods(given)["playscale-postgres"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "mine"


def test_a_budget_needs_two_replicas():
    documents = render(merged(GIVEN, {"mlflow": {"replicas": 2}}))
    budget = find(documents, "PodDisruptionBudget", "playscale-mlflow")["spec"]
    labels = pods(documents)["playscale-mlflow"]["metadata"]["labels"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()


# ---- settings


def test_settings_of_pipeline_pods():
    documents = render(merged(GIVEN, {"pipeline": {"namespace": "kubeflow"}}))
    assert find(documents, "ConfigMap", "playscale-settings", "kubeflow")["data"] == {
        "MLFLOW_TRACKING_URI": "http://playscale-mlflow.space.svc.cluster.local:5000",
        "AWS_ENDPOINT_URL": "http://playscale-s3.space.svc.cluster.local:9000",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PLAYSCALE_METRICS_PORT": "9464",
    }
    for space in ("space", "kubeflow"):
        assert set(find(documents, "Secret", "playscale-s3", space)["data"]) == {
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        }


@pytest.mark.parametrize(
    "change",
    [
        {"postgres": {"password": "other"}},
        {"s3": {"secretKey": "other"}},
        {"s3": {"region": "eu-west-1"}},
        {"pipeline": {"metricsPort": 9999}},
    ],
)
def test_a_changed_setting_replaces_the_server(change):
    def checksum(values):
        return pods(render(values))["playscale-mlflow"]["metadata"]["annotations"]["checksum/settings"]

    assert checksum(GIVEN) == checksum(copy.deepcopy(GIVEN))
    assert checksum(GIVEN) != checksum(merged(GIVEN, change))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mlfow": {}}, "mlfow"),
        ({"mlflow": {"replica": 2}}, "replica"),
        ({"pipeline": {"upload": {"enable": True}}}, "enable"),
        ({"mlflow": {"resources": {"request": {}}}}, "request"),
        ({"mlflow": {"port": 0}}, "port"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"s3": {"bucket": "Not_A_Bucket"}}, "bucket"),
        ({"mlflow": {"allowedHosts": ["a,b"]}}, "allowedHosts"),
    ],
)
def test_unknown_and_impossible_values_are_refused(values, said):
    with pytest.raises(helm_python.HelmValuesError, match=said):
        render(merged(GIVEN, values))


# ---- hardening


@pytest.mark.parametrize("values", [GIVEN, example("gpu"), example("production")], ids=["least", "gpu", "production"])
def test_pods_are_hardened(values):
    found = pods(render(values))
    assert found
    for name, pod in found.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], name  # noqa: S108


def test_rights_of_pipeline_pods():
    documents = render(merged(GIVEN, {"pipeline": {"namespace": "kubeflow"}}))
    rules = find(documents, "Role", "playscale-pipeline", "kubeflow")["rules"]
    assert "*" not in json.dumps(rules)
    writing = {(r, v) for rule in rules for r in rule["resources"] for v in rule["verbs"]}
    writing = {pair for pair in writing if pair[1] not in ("get", "list", "watch")}
    assert writing == {
        ("workflowtaskresults", "create"),
        ("workflowtaskresults", "patch"),
        ("workflowtasksets/status", "patch"),
    }
    for rule in rules:
        if {"secrets", "configmaps"} & set(rule["resources"]):
            assert rule["resourceNames"]
    assert not [d for d in documents if d["kind"].startswith("ClusterRole")]


def test_rights_on_train_jobs_are_those_that_their_step_uses_and_given_on_demand():
    given = merged(GIVEN, {"pipeline": {"namespace": "kubeflow", "rbac": {"trainJobs": True}}})
    without = merged(GIVEN, {"pipeline": {"namespace": "kubeflow"}})
    rules, fewer = (find(render(v), "Role", "playscale-pipeline", "kubeflow")["rules"] for v in (given, without))
    assert [rule for rule in rules if rule not in fewer] == [
        {
            "apiGroups": ["trainer.kubeflow.org"],
            "resources": ["trainjobs"],
            "verbs": ["create", "get", "patch", "delete"],
        },
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    assert {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]} in fewer


def test_a_digest_pins_the_image():
    assert mlflow(GIVEN)["image"] == "playscale/playscale:0.2.0"
    digest = "sha256:" + "1" * 64
    values = merged(GIVEN, {"image": {"digest": digest, "repository": "r.example/p"}})
    assert mlflow(values)["image"] == f"r.example/p@{digest}"


# ---- the network


def selects(selector, labels):
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))


def allowed(documents, source, target, port):
    """Whether policies let a pod (namespace, labels) reach another at a port: out of the one, into the other."""

    def passes(way, own, other):
        own_space, own_labels = own
        policies = [
            d["spec"]
            for d in documents
            if d["kind"] == "NetworkPolicy"
            and d["metadata"]["namespace"] == own_space
            and selects(d["spec"]["podSelector"], own_labels)
            and way in d["spec"]["policyTypes"]
        ]
        if not policies:
            return True
        key, peers = ("egress", "to") if way == "Egress" else ("ingress", "from")
        rules = [rule for policy in policies for rule in policy.get(key) or []]
        return any(
            (not rule.get("ports") or port in [p["port"] for p in rule["ports"]])
            and any(_is_peer(peer, own_space, other) for peer in rule[peers])
            for rule in rules
        )

    return passes("Egress", source, target) and passes("Ingress", target, source)


def _is_peer(peer, own_space, other):
    space, labels = other
    if "ipBlock" in peer:
        return False
    inside = {"kubernetes.io/metadata.name": space}
    right_space = selects(peer["namespaceSelector"], inside) if "namespaceSelector" in peer else space == own_space
    return right_space and selects(peer.get("podSelector", {}), labels)


def part(component):
    own = {"app.kubernetes.io/name": "playscale", "app.kubernetes.io/instance": "playscale"}
    return "space", own | {"app.kubernetes.io/part-of": "playscale", "app.kubernetes.io/component": component}


def step(component, space="kubeflow"):
    return space, {"app.kubernetes.io/part-of": "playscale", "app.kubernetes.io/component": component}


DNS = ("kube-system", {"k8s-app": "kube-dns"})
KFP = ("kubeflow", {"app": "ml-pipeline"})
PROMETHEUS = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
STRANGER = ("elsewhere", {"app": "stranger"})
NEIGHBOUR = ("kubeflow", {"app": "neighbour"})
PIPELINES = {"namespace": "kubeflow", "upload": {"enabled": True}}
WATCHED = merged(GIVEN, {"pipeline": PIPELINES, "monitoring": {"podMonitor": {"enabled": True}}})


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        *[(step(name), part("mlflow"), 5000) for name in STEPS],
        *[(step(name), part("s3"), 9000) for name in STEPS],
        *[(step(name), DNS, 53) for name in STEPS],
        *[(step(name), KFP, 8887) for name in STEPS],
        *[(PROMETHEUS, step(name), 9464) for name in STEPS],
        (PROMETHEUS, part("mlflow"), 5000),
        (part("mlflow"), part("postgres"), 5432),
        (part("mlflow"), part("s3"), 9000),
        (part("check"), part("mlflow"), 5000),
        (step("train"), step("train"), 29500),
    ],
    ids=str,
)
def test_network_policies_allow_the_connections_that_are_needed(source, target, port):
    assert allowed(render(WATCHED), source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        *[(STRANGER, part(name), port) for name, port in (("mlflow", 5000), ("postgres", 5432), ("s3", 9000))],
        *[(NEIGHBOUR, part(name), port) for name, port in (("mlflow", 5000), ("postgres", 5432), ("s3", 9000))],
        (step("train"), part("postgres"), 5432),
        (step("train", "elsewhere"), part("mlflow"), 5000),
        (part("postgres"), part("s3"), 9000),
        (part("postgres"), STRANGER, 80),
        (part("mlflow"), STRANGER, 80),
        (part("mlflow"), KFP, 8888),
        (part("s3"), part("postgres"), 5432),
        (step("train"), STRANGER, 80),
        (step("train"), step("evaluate"), 29500),
        (STRANGER, step("train"), 9464),
        (part("check"), part("postgres"), 5432),
    ],
    ids=str,
)
def test_network_policies_deny_all_other_connections(source, target, port):
    assert not allowed(render(WATCHED), source, target, port)


def test_chart_without_monitoring_lets_nobody_scrape():
    documents = render(merged(GIVEN, {"pipeline": {"namespace": "kubeflow"}}))
    assert not allowed(documents, PROMETHEUS, step("train"), 9464)
    assert not allowed(documents, PROMETHEUS, part("mlflow"), 5000)


def test_every_pod_of_the_chart_is_denied_by_default():
    documents = render(WATCHED)
    for space in ("space", "kubeflow"):
        deny = find(documents, "NetworkPolicy", "playscale-deny", space)["spec"]
        assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
        assert not deny.get("ingress")
    for name, pod in pods(documents).items():
        assert selects(deny["podSelector"], pod["metadata"]["labels"]), name


def test_policies_allow_names_where_the_clusters_dns_listens():
    openshift = {"dnsNamespace": "openshift-dns", "dnsPort": 5353, "dnsAddresses": ["169.254.20.10", "fd00::a"]}
    documents = render(merged(WATCHED, {"networkPolicy": openshift}))
    pods_of_the_chart = [part(name) for name in ("mlflow", "postgres", "s3", "check")]
    for source in [*pods_of_the_chart, step("upload"), *map(step, STEPS)]:
        assert allowed(documents, source, ("openshift-dns", {}), 5353)
        assert not allowed(documents, source, ("openshift-dns", {}), 53)
        assert not allowed(documents, source, DNS, 53)
    for space in ("space", "kubeflow"):
        _, beside = find(documents, "NetworkPolicy", "playscale-deny", space)["spec"]["egress"]
        assert [peer["ipBlock"]["cidr"] for peer in beside["to"]] == ["169.254.20.10/32", "fd00::a/128"]
        assert {(port["port"], port["protocol"]) for port in beside["ports"]} == {(53, "UDP"), (53, "TCP")}
        without = render(merged(WATCHED, {"networkPolicy": {"dnsAddresses": []}}))
        assert len(find(without, "NetworkPolicy", "playscale-deny", space)["spec"]["egress"]) == 1


def test_the_check_reaches_s3_only_where_clients_are_sent_there():
    for presigned, places in ((False, 1), (True, 2)):
        documents = render(merged(EXTERNAL, {"mlflow": {"presignedUrls": presigned}}))
        assert len(find(documents, "NetworkPolicy", "playscale-check")["spec"]["egress"]) == places


def test_outside_addresses():
    documents = render(merged(EXTERNAL, {"pipeline": {"namespace": "kubeflow"}}))
    blocks = [
        (peer["ipBlock"], [p["port"] for p in rule["ports"]])
        for document in documents
        if document["kind"] == "NetworkPolicy"
        for rule in document["spec"].get("egress") or []
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    world = [ports for block, ports in blocks if block["cidr"] == "0.0.0.0/0"]
    assert world == [[443]] * 2  # of MLflow and of pipeline pods
    assert all(block["except"] == ["169.254.0.0/16"] for block, _ in blocks if block["cidr"] == "0.0.0.0/0")


# ---- monitoring and upload


def test_pipeline_pods_are_scraped_once_at_the_right_port():
    documents = render(merged(WATCHED, {"pipeline": {"metricsPort": 9999}}))
    spec = find(documents, "PodMonitor", "playscale-pipeline", "kubeflow")["spec"]
    assert all(selects(spec["selector"], step(name)[1]) for name in STEPS)
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    keep, address = endpoint["relabelings"]
    assert (keep["action"], keep["regex"]) == ("keep", "main|node")
    assert (address["targetLabel"], address["replacement"]) == ("__address__", "$1:9999")


def test_rules_and_dashboard_are_the_files():
    values = merged(GIVEN, {"monitoring": {key: {"enabled": True} for key in ("rules", "dashboard")}})
    documents = render(values)
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text(encoding="utf-8"))
    assert find(documents, "PrometheusRule", "playscale")["spec"] == rules
    board = find(documents, "ConfigMap", "playscale-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    text = (CHART / "files/dashboard.json").read_text(encoding="utf-8")
    assert json.loads(board["data"]["playscale.json"]) == json.loads(text)


def test_upload_compiles_for_this_image_and_runs_after_install():
    upload = {"enabled": True, "pods": {"train": {"gpus": 1}, "settings": "not-this"}}
    values = merged(GIVEN, {"pipeline": {"upload": upload, "secretName": "keys"}, "imagePullSecrets": ["pull"]})
    job = find(render(values), "Job", "playscale-upload")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    compiling, uploading = containers(pods(render(values))["playscale-upload"])
    assert argument(compiling, "image") == uploading["image"]
    assert argument(compiling, "pods") == "/settings/pods.yaml"
    assert yaml.safe_load(find(render(values), "ConfigMap", "playscale-upload")["data"]["pods.yaml"]) == {
        "train": {"gpus": 1},
        "settings": "playscale-settings",
        "credentials": "keys",
        "login": "playscale-login",
        "image_pull_secrets": ["pull"],
    }
    assert uploading["command"][1:4] == ["-m", "playscale_pipelines.upload", "/tmp/compiled/study.yaml"]  # noqa: S108


def test_the_check_is_a_test_hook_in_our_image():
    check = pods(render(GIVEN))["playscale-check"]
    assert check["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-output-log-policy": "hook-succeeded,hook-failed",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded,hook-failed",
    }
    (container,) = containers(check)
    compile(container["command"][-1], "check.py", "exec")
    assert container["image"] == mlflow(GIVEN)["image"]


def test_two_releases_share_no_name_but_the_settings():
    def own(name):
        given = {"settingsName": f"{name}-settings", "secretName": f"{name}-s3", "serviceAccount": {"name": name}}
        return {(d["kind"], d["metadata"]["name"]) for d in render(merged(GIVEN, {"pipeline": given}), name=name)}

    assert not own("one") & own("two")


def test_the_chart_renders_under_a_long_name():
    assert all(len(document["metadata"]["name"]) <= 63 for document in render(GIVEN, name="a" * 53))
