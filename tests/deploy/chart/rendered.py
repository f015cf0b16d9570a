"""The chart rendered by Helm's own engine, as documents that tests can ask."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[3] / "charts/playscale"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
GIVEN = {"postgres": {"password": "p"}, "s3": {"accessKey": "a", "secretKey": "s"}}  # the least that a release needs

Document = dict[str, Any]


def example(name: str) -> Document:
    return yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text(encoding="utf-8"))


def merged(*layers: Document) -> Document:
    """Values over values, as Helm lays them: mappings are merged, everything else is replaced."""
    result: Document = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def texts(values: Document, **options: Any) -> dict[str, str]:
    """Rendered text by template, checked against the values' schema first as `helm install` does."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        return chart.render(values, **{"name": "playscale", "namespace": "space"} | options)


def render(values: Document, **options: Any) -> list[Document]:
    """The rendered documents. They are kept, and shared by all who ask for the same: leave them as they are."""
    return _render(json.dumps(values), json.dumps(options))


@cache
def _render(values: str, options: str) -> list[Document]:
    return documents_of(texts(json.loads(values), **json.loads(options)))


def documents_of(rendered: dict[str, str]) -> list[Document]:
    """The objects in rendered templates."""
    files = [text for path, text in rendered.items() if path.endswith(".yaml")]
    return [document for text in files for document in yaml.safe_load_all(text) if document]


def find(documents: list[Document], kind: str, name: str, namespace: str = "space") -> Document:
    """The one object of that kind, name and namespace."""
    where = (kind, name, namespace)
    (found,) = [d for d in documents if (d["kind"], d["metadata"]["name"], d["metadata"]["namespace"]) == where]
    return found


def names(documents: list[Document], kind: str) -> set[str]:
    return {d["metadata"]["name"] for d in documents if d["kind"] == kind}


def pods(documents: list[Document]) -> dict[str, Document]:
    """Every pod, template or not: its metadata and spec by the name of its owner."""
    found = {}
    for document in documents:
        if document["kind"] == "Pod":
            found[document["metadata"]["name"]] = document
        elif "template" in document.get("spec", {}):
            found[document["metadata"]["name"]] = document["spec"]["template"]
    return found


def containers(pod: Document) -> list[Document]:
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def argument(container: Document, name: str) -> str:
    """What follows --NAME= on the container's command line."""
    (found,) = [a.removeprefix(f"--{name}=") for a in container["command"] if a.startswith(f"--{name}=")]
    return found
