"""Passwords that no value gives: generated where a cluster can be asked for the present ones, and kept."""

import base64

import fake_cluster
import helm_python
import pytest
from rendered import GIVEN, find, merged, names, pods, render

NAMES = ("playscale-postgres", "playscale-s3")
KUBEFLOW = {"pipeline": {"namespace": "kubeflow"}}


@pytest.fixture
def cluster():
    with fake_cluster.serve() as cluster:
        yield cluster


def secrets(documents, namespace="space"):
    """The values of the release's Secrets in a namespace, decoded."""
    found = [d for d in documents if d["kind"] == "Secret" and d["metadata"]["namespace"] == namespace]
    return {d["metadata"]["name"]: {k: base64.b64decode(v).decode() for k, v in d["data"].items()} for d in found}


def checksum(documents, pod="playscale-mlflow"):
    return pods(documents)[pod]["metadata"]["annotations"]["checksum/settings"]


def test_an_install_with_default_values_generates_the_passwords(cluster):
    made = secrets(cluster.install({}))
    assert set(made) == set(NAMES)
    lengths = {key: len(value) for values in made.values() for key, value in values.items()}
    assert lengths == {"password": 32, "AWS_ACCESS_KEY_ID": 20, "AWS_SECRET_ACCESS_KEY": 40}
    with fake_cluster.serve() as other:
        assert made != secrets(other.install({}))


def test_upgrades_and_a_new_install_keep_them(cluster):
    first = cluster.install({})
    again = cluster.install({"mlflow": {"replicas": 2}})
    assert secrets(again) == secrets(first)
    assert checksum(again) == checksum(first)  # or each upgrade would restart all pods
    cluster.uninstall()
    assert secrets(cluster.install({})) == secrets(first)


def test_one_render_has_one_password_of_each(cluster):
    documents = cluster.install(KUBEFLOW)
    here, there = (secrets(documents, space)["playscale-s3"] for space in ("space", "kubeflow"))
    assert here == there
    assert checksum(documents) == checksum(documents, "playscale-s3")


def test_only_generated_secrets_outlive_the_release(cluster):
    for name in NAMES:
        assert find(cluster.install({}), "Secret", name)["metadata"]["annotations"] == dict([fake_cluster.KEEP])
        assert "annotations" not in find(render(GIVEN), "Secret", name)["metadata"]


def test_values_go_over_what_is_in_the_cluster(cluster):
    cluster.install({})
    given = secrets(cluster.install(GIVEN))
    assert given == {
        "playscale-postgres": {"password": "p"},
        "playscale-s3": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"},
    }
    assert secrets(cluster.install({})) == given


def test_a_volume_without_its_secret_wants_the_password(cluster):
    cluster.install(GIVEN)
    cluster.uninstall()  # the volume stays, the Secret of a given password does not
    with pytest.raises(helm_python.HelmRenderError, match=r"postgres\.password: the Secret playscale-postgres is gone"):
        cluster.install({})
    assert secrets(cluster.install(GIVEN))["playscale-postgres"] == {"password": "p"}


def test_a_release_in_a_new_namespace_is_told_from_a_render_without_a_cluster(cluster):
    assert secrets(cluster.install({}, namespace="new"), "new")
    for values, said in (({}, "postgres.password"), ({"postgres": {"password": "p"}}, "s3.accessKey")):
        with pytest.raises(helm_python.HelmRenderError, match=f"{said}: give one, or name a Secret .*Argo CD") as error:
            render(values)
        assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"postgres": {"deploy": False, "host": "db"}}, "postgres.password: give one"),
        ({"s3": {"deploy": False}}, "s3.accessKey: give one"),
        ({"s3": {"accessKey": "a"}}, "s3.secretKey: give one"),
    ],
)
def test_nothing_is_generated_for_external_services_or_half_a_pair(cluster, values, said):
    with pytest.raises(helm_python.HelmRenderError, match=said):
        cluster.install(values)


def test_existing_secrets_ask_no_cluster():
    documents = render({"postgres": {"existingSecret": "db"}, "s3": {"existingSecret": "keys"}})
    assert names(documents, "Secret") == set()


def test_notes_name_the_generated_secrets(cluster):
    (notes,) = [text for path, text in cluster.render({}).items() if path.endswith("NOTES.txt")]
    assert all(f"get secret {name} " in notes for name in NAMES)
    assert secrets(cluster.install({}))["playscale-postgres"]["password"] not in notes
    (given,) = [text for path, text in cluster.render(merged(GIVEN, KUBEFLOW)).items() if path.endswith("NOTES.txt")]
    assert "get secret" not in given
