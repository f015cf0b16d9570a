"""As much of a Kubernetes API as Helm's `lookup` asks: discovery of version v1, and objects by name."""

import contextlib

import helm_python
import json_server
from rendered import CHART, documents_of

RESOURCES = {"namespaces": "Namespace", "secrets": "Secret", "persistentvolumeclaims": "PersistentVolumeClaim"}
KEEP = ("helm.sh/resource-policy", "keep")
DISCOVERY = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {"name": name, "singularName": "", "kind": kind, "namespaced": name != "namespaces", "verbs": ["get"]}
        for name, kind in RESOURCES.items()
    ],
}


class Handler(json_server.Handler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        found = DISCOVERY if path == "/api/v1" else self.server.objects.get(path)
        gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self.answer(found or gone, 200 if found else 404)


class FakeCluster:
    """Installs, upgrades and uninstalls the chart, as far as Secrets and claims go."""

    def __init__(self, server):
        self._objects = server.objects
        self._url = json_server.url(server)
        self.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})

    def add(self, document):
        """Keep an object that `lookup` may ask for; others need no place."""
        name, namespace = document["metadata"]["name"], document["metadata"].get("namespace")
        for resource, kind in RESOURCES.items():
            if kind == document["kind"]:
                within = f"namespaces/{namespace}/" if namespace else ""
                self._objects[f"/api/v1/{within}{resource}/{name}"] = document

    def render(self, values, **options):
        """The rendered text by template, with this cluster to look things up in."""
        options = {"name": "playscale", "namespace": "space"} | options
        with helm_python.Chart.load(CHART) as chart, helm_python.Config(kube_apiserver=self._url) as config:
            chart.validate_schema(values)
            return config.render(chart, values, **options)

    def install(self, values, **options):
        """Render, and keep the objects; an upgrade is the same."""
        documents = documents_of(self.render(values, **options))
        for document in documents:
            self.add(document)
        return documents

    def uninstall(self):
        for path, found in list(self._objects.items()):
            if found["kind"] != "Namespace" and KEEP not in found["metadata"].get("annotations", {}).items():
                del self._objects[path]


@contextlib.contextmanager
def serve():
    """A cluster with nothing in it but the namespace kube-system."""
    with json_server.serving(Handler, objects={}) as server:
        yield FakeCluster(server)
