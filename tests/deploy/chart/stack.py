"""A rendered release under `podman kube play`.

What podman has no notion of is put the plainest way:
- a StatefulSet or Deployment is one Pod of its template;
- all pods share the machine's network, a Service's names are lines in their /etc/hosts, its port is the pod's;
- the pod's address (status.podIP) is the machine's loopback, and $(NAME) in a variable is its value;
- an emptyDir is a folder of the machine that anybody may write to;
- probes are asked by the test, for podman would ask them with tools that the images do not have;
- the owner of a volume (fsGroup) is the image's; NetworkPolicies, Roles and budgets are left out.
All else is as rendered: images, commands, variables, Secrets, claims, users, read-only root, dropped capabilities.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
import tempfile
from pathlib import Path

import yaml
from rendered import Document

LOOPBACK = "127.0.0.1"
REFERENCE = re.compile(r"\$\((\w+)\)")


def podman(*arguments: str | Path, check: bool = True) -> str:
    """Run podman; returns what it printed. A failure carries its message."""
    done = subprocess.run(["podman", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=600)
    if check and done.returncode:
        raise AssertionError(f"podman {' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def service_names(documents: list[Document]) -> list[str]:
    """Every name by which a pod of the cluster may call a Service."""
    names = []
    for document in documents:
        if document["kind"] == "Service":
            name, space = document["metadata"]["name"], document["metadata"]["namespace"]
            names += [name, f"{name}.{space}", f"{name}.{space}.svc", f"{name}.{space}.svc.cluster.local"]
    return names


def secret_value(documents: list[Document], name: str, key: str) -> str:
    """What a Secret of the release holds."""
    found = [d["data"][key] for d in documents if d["kind"] == "Secret" and d["metadata"]["name"] == name]
    return base64.b64decode(found[0]).decode()


def expand(container: Document, documents: list[Document]) -> None:
    """Put values for $(NAME) in variables and the command, as the kubelet does."""
    known = {"POD_IP": LOOPBACK}
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if source.get("fieldRef") == {"fieldPath": "status.podIP"}:
            del variable["valueFrom"]
            variable["value"] = LOOPBACK
        elif "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            known[variable["name"]] = secret_value(documents, reference["name"], reference["key"])
        else:
            variable["value"] = REFERENCE.sub(lambda found: known[found[1]], variable["value"])
    for words in ("command", "args"):
        if words in container:
            container[words] = [REFERENCE.sub(lambda found: known[found[1]], word) for word in container[words]]


def as_pod(owner: Document, documents: list[Document], folder: Path) -> Document:
    """The one pod that stands for a Deployment, a StatefulSet or itself."""
    template = copy.deepcopy(owner if owner["kind"] == "Pod" else owner["spec"]["template"])
    spec = template["spec"]
    spec["hostNetwork"] = True
    hosts = folder / "hosts"  # podman 4.3 gives a pod in the machine's network no hostAliases
    hosts.write_text(f"{LOOPBACK} localhost {' '.join(service_names(documents))}\n", encoding="utf-8")
    spec["volumes"].append({"name": "hosts", "hostPath": {"path": str(hosts), "type": "File"}})
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            del volume["emptyDir"]
            path = Path(tempfile.mkdtemp(prefix=f"{owner['metadata']['name']}-{volume['name']}-", dir=folder))
            path.chmod(0o777)
            volume["hostPath"] = {"path": str(path), "type": "Directory"}
    for container in spec.get("initContainers", []) + spec["containers"]:
        for unknown in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
            container.pop(unknown, None)
        mount = {"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True}
        container["volumeMounts"] = [*container["volumeMounts"], mount]  # YAML's anchors share the old list
        expand(container, documents)
    if owner["kind"] != "Pod":
        spec["restartPolicy"] = "OnFailure"  # podman would restart init containers that have done their work
    metadata = {"name": owner["metadata"]["name"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class Stack:
    """The pods of a release, each played from a file of its own beside what it needs."""

    def __init__(self, documents: list[Document], folder: Path) -> None:
        self.documents = documents
        self.folder = folder
        self.hosts = service_names(documents)

    def file(self, name: str) -> Path:
        """The pod as YAML for podman."""
        (owner,) = [
            d
            for d in self.documents
            if d["metadata"]["name"] == name and d["kind"] in {"Deployment", "StatefulSet", "Pod"}
        ]
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(as_pod(owner, self.documents, self.folder)), encoding="utf-8")
        return path

    def keep(self) -> None:
        """Make the claims, and hand over the Secrets as podman 4.3 keeps them: their data as JSON, under their name."""
        for document in self.documents:
            name = document["metadata"]["name"]
            if document["kind"] == "Secret":
                path = self.folder / f"secret-{name}.json"
                path.write_text(json.dumps(document["data"]), encoding="utf-8")
                podman("secret", "rm", name, check=False)
                podman("secret", "create", name, path)
            elif document["kind"] == "PersistentVolumeClaim":
                path = self.folder / f"claim-{name}.yaml"
                path.write_text(yaml.safe_dump(document), encoding="utf-8")
                podman("kube", "play", path)

    def play(self, name: str) -> None:
        podman("kube", "play", "--log-driver=k8s-file", self.file(name))

    def down(self, name: str) -> None:
        """Remove a pod and all that its root file systems held; claims stay."""
        podman("pod", "rm", "--force", "--time=20", name, check=False)

    def remove(self) -> None:
        for document in self.documents:
            if document["kind"] in {"Deployment", "StatefulSet", "Pod"}:
                self.down(document["metadata"]["name"])
        for document in self.documents:
            if document["kind"] == "PersistentVolumeClaim":
                podman("volume", "rm", "--force", document["metadata"]["name"], check=False)
            elif document["kind"] == "Secret":
                podman("secret", "rm", document["metadata"]["name"], check=False)

    def logs(self, name: str) -> str:
        """What the pod's containers have printed, for the message of a failure."""
        listed = podman("ps", "--all", "--filter", f"pod={name}", "--format", "{{.Names}}", check=False).split()
        printed = []
        for container in listed:
            done = subprocess.run(
                ["podman", "logs", "--tail=30", container], capture_output=True, text=True, check=False
            )
            printed.append(f"--- {container}\n{done.stdout}{done.stderr}")
        return "\n".join(printed)

    def inspect(self, container: str) -> Document:
        return json.loads(podman("container", "inspect", container))[0]
