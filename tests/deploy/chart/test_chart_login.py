"""Logins: MLflow's own accounts, an OpenID provider before the server, an MLflow of others."""

import base64
import configparser
import json

import fake_cluster
import helm_python
import pytest
from rendered import GIVEN, containers, find, merged, names, pods, render, texts
from test_chart_render import EXTERNAL_MLFLOW, OIDC
from test_chart_templates import STEPS, STRANGER, allowed, argument, mlflow, part, step, variable

KUBEFLOW = {"pipeline": {"namespace": "kubeflow"}}
AUTH = merged(
    GIVEN, KUBEFLOW, {"mlflow": {"auth": {"enabled": True, "existingSecret": "admin"}, "existingLogin": "own"}}
)
ENTERED = merged(
    GIVEN, {"mlflow": {"oidc": OIDC}, "ingress": {"enabled": True, "hosts": ["m.example"], "tlsSecret": "t"}}
)


@pytest.fixture
def cluster():
    with fake_cluster.serve() as cluster:
        yield cluster


def secret(documents, name, namespace="space"):
    return {k: base64.b64decode(v).decode() for k, v in find(documents, "Secret", name, namespace)["data"].items()}


# ---- accounts


def test_the_accounts_are_generated_and_kept(cluster):
    values = merged(KUBEFLOW, {"mlflow": {"auth": {"enabled": True}}})
    first = cluster.install(values)
    admin, login = secret(first, "playscale-mlflow-auth"), secret(first, "playscale-login")
    assert admin["username"] == "admin"
    assert (len(admin["password"]), len(admin["secret-key"])) == (32, 48)
    assert (login["MLFLOW_TRACKING_USERNAME"], len(login["MLFLOW_TRACKING_PASSWORD"])) == ("studies", 32)
    assert secret(first, "playscale-login", "kubeflow") == login
    cluster.uninstall()
    again = cluster.install(values)
    assert (secret(again, "playscale-mlflow-auth"), secret(again, "playscale-login")) == (admin, login)
    assert "playscale-mlflow-auth" not in names(cluster.install({}), "Secret")


def test_where_no_cluster_is_asked_both_secrets_are_given():
    for given, said in (({}, "mlflow.auth.existingSecret"), ({"existingSecret": "admin"}, "mlflow.existingLogin")):
        with pytest.raises(helm_python.HelmRenderError, match=f"mlflow.auth: name a Secret as {said};") as error:
            render(merged(GIVEN, {"mlflow": {"auth": {"enabled": True} | given}}))
        assert "\n" not in str(error.value).strip()
    assert names(render(AUTH), "Secret") == names(render(merged(GIVEN, KUBEFLOW)), "Secret")


def test_the_server_has_the_accounts_in_a_schema_of_their_own():
    documents = render(AUTH)
    settings = configparser.ConfigParser()
    settings.read_string(find(documents, "ConfigMap", "playscale-mlflow-auth")["data"]["auth.ini"])
    uri = argument(mlflow(AUTH), "backend-store-uri")
    assert dict(settings["mlflow"]) == {
        "default_permission": "READ",
        "database_uri": f"{uri}&options=-csearch_path%3Dmlflow_auth",
        "authorization_function": "playscale.tracking.mlflow_login:authorize",
    }
    _, accounts, server = containers(pods(documents)["playscale-mlflow"])
    assert accounts["command"] == ["python3", "-m", "playscale.tracking.mlflow_login", "mlflow_auth"]
    assert "--app-name=basic-auth" in server["command"]
    for container in (accounts, server):
        assert variable(container, "MLFLOW_AUTH_CONFIG_PATH") == "/etc/mlflow/auth.ini"
        assert {"name": "auth", "mountPath": "/etc/mlflow", "readOnly": True} in container["volumeMounts"]
        for name, key in (("AUTH_ADMIN_PASSWORD", "password"), ("FLASK_SERVER_SECRET_KEY", "secret-key")):
            assert variable(container, f"MLFLOW_{name}") == {"secretKeyRef": {"name": "admin", "key": key}}
    login = variable(accounts, "MLFLOW_TRACKING_PASSWORD")["secretKeyRef"]
    assert login == {"name": "own", "key": "MLFLOW_TRACKING_PASSWORD", "optional": True}
    assert "MLFLOW_TRACKING_PASSWORD" not in [v["name"] for v in server["env"]]


def test_the_jobs_of_the_chart_log_in():
    documents = render(merged(AUTH, {"mlflow": {"gc": {"enabled": True}}, "pipeline": {"upload": {"enabled": True}}}))
    (check,) = containers(pods(documents)["playscale-check"])
    assert (variable(check, "LOGIN"), variable(check, "OWN_SERVER")) == ("true", "true")
    assert variable(check, "MLFLOW_TRACKING_USERNAME")["secretKeyRef"]["name"] == "own"
    (gc,) = find(documents, "CronJob", "playscale-gc")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert variable(gc, "MLFLOW_TRACKING_PASSWORD") == {"secretKeyRef": {"name": "admin", "key": "password"}}
    upload = find(documents, "ConfigMap", "playscale-upload", "kubeflow")["data"]["pods.yaml"]
    assert "login: own" in upload


def test_without_a_login_nothing_of_it_is_there():
    documents = render(merged(GIVEN, {"mlflow": {"gc": {"enabled": True}}}))
    assert "playscale-mlflow-auth" not in names(documents, "ConfigMap")
    given = json.dumps([[d for d in documents if d["kind"] == "CronJob"], mlflow(GIVEN)["env"]])
    given += json.dumps(containers(pods(documents)["playscale-check"])[0]["env"])
    assert "MLFLOW_AUTH" not in given
    assert "MLFLOW_TRACKING_USERNAME" not in given


def test_notes_say_who_may_enter(cluster):
    def notes(values):
        return next(text for path, text in cluster.render(values).items() if path.endswith("NOTES.txt"))

    page = {"ingress": {"enabled": True, "hosts": ["m.example"]}}
    assert "no login of its own" in notes(page)
    assert "no login of its own" not in notes(merged(page, {"mlflow": {"oidc": OIDC}}))
    said = notes(merged(page, {"mlflow": {"auth": {"enabled": True}}}))
    assert "no login of its own" not in said
    assert "get secret playscale-mlflow-auth " in said


# ---- an OpenID provider


def test_users_enter_by_the_proxy_and_pods_by_the_server():
    documents = render(ENTERED)
    (backend,) = find(documents, "Ingress", "playscale-mlflow")["spec"]["rules"][0]["http"]["paths"]
    assert backend["backend"]["service"]["port"] == {"name": "login"}
    assert [p["port"] for p in find(documents, "Service", "playscale-mlflow")["spec"]["ports"]] == [5000, 4180]
    entrance = ("ingress-nginx", {"app": "controller"})
    assert allowed(documents, entrance, part("mlflow"), 4180)
    assert not allowed(documents, entrance, part("mlflow"), 5000)
    assert not allowed(documents, STRANGER, part("mlflow"), 4180)
    for name in STEPS:
        assert allowed(documents, step(name, "space"), part("mlflow"), 5000)
        assert not allowed(documents, step(name, "space"), part("mlflow"), 4180)
    settings = find(documents, "ConfigMap", "playscale-settings")["data"]
    assert settings["MLFLOW_TRACKING_URI"].endswith(":5000")


def test_the_proxy_asks_the_provider():
    _, proxy = pods(render(ENTERED))["playscale-mlflow"]["spec"]["containers"]
    assert {"--oidc-issuer-url=https://login.example", "--email-domain=lab.example"} <= set(proxy["args"])
    assert variable(proxy, "OAUTH2_PROXY_COOKIE_SECRET") == {"secretKeyRef": {"name": "oidc", "key": "cookie-secret"}}
    rules = find(render(ENTERED), "NetworkPolicy", "playscale-mlflow")["spec"]["egress"]
    assert [p["port"] for p in rules[-1]["ports"]] == [443]
    route = {"httpRoute": {"enabled": True, "hosts": ["m.example"], "parentRefs": [{"name": "g"}]}}
    (rule,) = find(render(merged(ENTERED, route)), "HTTPRoute", "playscale-mlflow")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "playscale-mlflow", "port": 4180}]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mlflow": {"oidc": {"issuer": ""}}}, "mlflow.oidc.issuer: name"),
        ({"mlflow": {"oidc": {"existingSecret": ""}}}, "mlflow.oidc.existingSecret: name a Secret"),
        ({"mlflow": {"oidc": {"emailDomains": []}}}, "mlflow.oidc.emailDomains: name the domains"),
        ({"mlflow": {"auth": {"enabled": True, "existingSecret": "a"}, "existingLogin": "b"}}, "enable one of the two"),
    ],
)
def test_a_login_that_is_not_whole_is_refused(values, said):
    with pytest.raises(helm_python.HelmRenderError, match=said) as error:
        render(merged(ENTERED, values))
    assert "\n" not in str(error.value).strip()


# ---- an MLflow of others


def test_studies_log_to_an_mlflow_of_others():
    documents = render(merged(EXTERNAL_MLFLOW, KUBEFLOW))
    notes = next(text for path, text in texts(EXTERNAL_MLFLOW).items() if path.endswith("NOTES.txt"))
    assert "MLflow: https://mlflow.example\n" in notes
    assert "port-forward" not in notes
    settings = find(documents, "ConfigMap", "playscale-settings", "kubeflow")["data"]
    assert settings["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
    assert names(documents, "Deployment") == set()
    assert names(documents, "StatefulSet") == {"playscale-s3"}
    assert "playscale-postgres" not in names(documents, "Secret")
    (check,) = containers(pods(documents)["playscale-check"])
    assert variable(check, "MLFLOW_TRACKING_URI") == "https://mlflow.example"
    assert (variable(check, "LOGIN"), variable(check, "OWN_SERVER")) == ("false", "false")
    assert variable(check, "MLFLOW_TRACKING_TOKEN")["secretKeyRef"]["name"] == "login"


@pytest.mark.parametrize(
    ("uri", "port"),
    [("https://mlflow.example", 443), ("http://mlflow.example/path", 80), ("http://10.0.0.1:5000", 5000)],
)
def test_pipeline_pods_reach_that_mlflow_at_its_port(uri, port):
    values = merged(EXTERNAL_MLFLOW, KUBEFLOW, {"mlflow": {"trackingUri": uri}})
    values = merged(values, {"networkPolicy": {"mlflowCidrs": ["10.9.0.0/16"]}})
    for name, space in (("playscale-pipeline", "kubeflow"), ("playscale-check", "space")):
        rule = find(render(values), "NetworkPolicy", name, space)["spec"]["egress"][0]
        assert rule == {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": port}]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mlflow": {"trackingUri": ""}}, "mlflow.trackingUri: name the external MLflow"),
        ({"ingress": {"enabled": True, "hosts": ["m.example"]}}, "there is no MLflow to lead to"),
    ],
)
def test_an_external_mlflow_that_is_not_whole_is_refused(values, said):
    with pytest.raises(helm_python.HelmRenderError, match=said):
        render(merged(EXTERNAL_MLFLOW, values))
