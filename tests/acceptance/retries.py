"""Argo's settings, as k8s/argo changes them: failed steps are tried again."""

from __future__ import annotations

import sys

import yaml

from .cluster import ROOT, Cluster, expect, run

SETTINGS = ROOT / "k8s/argo/retries.yaml"


def retries_are_set(cluster: Cluster) -> str:
    """Merge the rule into Argo's settings; merged again, it changes nothing."""
    (cluster.folder / "before.yaml").write_text(_defaults(cluster))
    said = _merge(cluster)
    again = _merge(cluster)
    expect("already" in again, f"merged twice: {again}")
    return said


def retries_are_unset(cluster: Cluster) -> str:
    """Take the rule out; the settings are what they were."""
    said = _merge(cluster, "--undo")
    before = cluster.folder / "before.yaml"
    if before.is_file():
        expect(
            yaml.safe_load(_defaults(cluster)) == yaml.safe_load(before.read_text()),
            "Argo's settings are not as before",
        )
    return said


def _merge(cluster: Cluster, *options: str) -> str:
    script = str(ROOT / "k8s/argo/defaults.py")
    return run(sys.executable, script, str(SETTINGS), "--namespace", cluster.kubeflow, *options).strip()


def _defaults(cluster: Cluster) -> str:
    asked = ("get", "configmap", "workflow-controller-configmap", "-o", "jsonpath={.data.workflowDefaults}")
    return cluster.kubectl(*asked, namespace=cluster.kubeflow)
