#!/usr/bin/env python3
"""Merge settings into the defaults that Argo Workflows gives every workflow of Kubeflow Pipelines, or undo that.

    python k8s/argo/defaults.py k8s/argo/retries.yaml [--undo] [--namespace kubeflow]

They are one string of YAML, `workflowDefaults` of the ConfigMap `workflow-controller-configmap`, which no patch of
Kubernetes can merge. What the string already says of other things stays. What a file has replaced is kept in an
annotation of the ConfigMap, and comes back with --undo. Run again, it changes nothing. It needs kubectl and PyYAML, and
may need to be run again after an upgrade of Kubeflow. Argo reads the ConfigMap when it changes; new workflows have it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CONFIG_MAP, KEY = "workflow-controller-configmap", "workflowDefaults"
ANNOTATION = "playscale/replaced-by-"

Setting = tuple[tuple[str, ...], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="settings to merge: k8s/argo/retries.yaml, k8s/argo/priority.yaml")
    parser.add_argument("--undo", action="store_true", help="take the file's settings out again")
    parser.add_argument("--namespace", default="kubeflow", help="namespace of Argo's controller (%(default)s)")
    given = parser.parse_args()
    try:
        print(change(given.file, given.namespace, undo=given.undo))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RuntimeError) else 2)


def change(file: Path, namespace: str, *, undo: bool) -> str:
    """Merge the settings of a file into the ConfigMap, or undo it; return what was done."""
    settings = list(leaves(mapping(file.read_text(encoding="utf-8"), str(file))))
    found = json.loads(kubectl(namespace, "get", "configmap", CONFIG_MAP, "--output", "json"))
    if "config" in (found.get("data") or {}):
        raise ValueError(f"{CONFIG_MAP}: has one key `config`, as Argo's had before version 3: merge {file} by hand")
    annotation = ANNOTATION + file.stem
    text = (found.get("data") or {}).get(KEY, "")
    record = (found["metadata"].get("annotations") or {}).get(annotation)
    defaults, where = mapping(text, f"{CONFIG_MAP}: {KEY}"), f"{CONFIG_MAP} in {namespace}"
    if undo:
        if record is None:
            return f"{where}: {file.name} was not merged into it"
        taken_out(defaults, settings, json.loads(record))
        write(namespace, found, defaults, {annotation: None})
        return f"{where}: {file.name} taken out"
    replaced = merged(defaults, settings)
    if not replaced:
        return f"{where}: {file.name} is in it already"
    before = {tuple(path): value for path, value in json.loads(record or "[]")} | replaced
    write(namespace, found, defaults, {annotation: json.dumps([[list(path), was] for path, was in before.items()])})
    return f"{where}: {file.name} merged; --undo takes it out"


def mapping(text: str, where: str) -> dict[str, Any]:
    """Read YAML that is a mapping, or empty."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(value, dict | None):
        raise ValueError(f"{where}: no mapping of settings")
    return value or {}


def leaves(settings: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Yield every setting that is no mapping, with its path."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def merged(defaults: dict[str, Any], settings: list[Setting]) -> dict[tuple[str, ...], list[Any]]:
    """Set the settings; return what each changed one was before: [value], or [] where there was none."""
    replaced = {}
    for path, value in settings:
        place = defaults
        for key in path[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(f"{KEY}: {key} is no mapping, but {place!r}")
        if path[-1] not in place or place[path[-1]] != value:
            replaced[path] = [place[path[-1]]] if path[-1] in place else []
            place[path[-1]] = value
    return replaced


def taken_out(defaults: dict[str, Any], settings: list[Setting], record: list[list[Any]]) -> None:
    """Set what the settings replaced as it was, unless somebody has changed it since; remove mappings left empty."""
    before = {tuple(path): was for path, was in record}
    for path, value in settings:
        places = [defaults]
        for key in path[:-1]:
            below = places[-1].get(key)
            places.append(below if isinstance(below, dict) else {})
        if path not in before or places[-1].get(path[-1]) != value:
            continue
        if before[path]:
            places[-1][path[-1]] = before[path][0]
            continue
        del places[-1][path[-1]]
        for place, key in zip(reversed(places[:-1]), reversed(path[:-1]), strict=True):
            if not place[key]:
                del place[key]


def write(namespace: str, found: dict[str, Any], defaults: dict[str, Any], annotations: dict[str, str | None]) -> None:
    """Write the defaults and annotations (None removes one), unless the ConfigMap has changed since it was read."""
    text = yaml.safe_dump(defaults, sort_keys=False) if defaults else None
    metadata = {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": annotations}
    patch = json.dumps({"metadata": metadata, "data": {KEY: text}})
    kubectl(namespace, "patch", "configmap", CONFIG_MAP, "--type", "merge", "--patch", patch)


def kubectl(namespace: str, *arguments: str) -> str:
    """Return the output of kubectl; RuntimeError with its message when it fails."""
    command = ["kubectl", "--namespace", namespace, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ValueError("kubectl is not on PATH") from error
    if done.returncode:
        raise RuntimeError(f"kubectl: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
