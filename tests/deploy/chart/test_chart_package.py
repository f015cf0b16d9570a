"""The chart as a package: what a catalogue shows of it, and the script that packages and pushes it."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from rendered import CHART, EXAMPLES, containers, example, merged, pods, render
from test_chart_render import OIDC

import playscale

ROOT = CHART.parents[1]
META = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))


def test_the_images_named_are_those_that_run():
    named = {one["image"] for one in yaml.safe_load(META["annotations"]["artifacthub.io/images"])}
    everything = merged(example("kind"), {"mlflow": {"oidc": OIDC}})
    assert named == {container["image"] for pod in pods(render(everything)).values() for container in containers(pod)}


def test_the_changes_have_kinds_that_a_catalogue_knows():
    changes = yaml.safe_load(META["annotations"]["artifacthub.io/changes"])
    assert {one["kind"] for one in changes} <= {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert all(one["description"] for one in changes)


def test_the_version_is_the_programs():
    assert META["version"] == META["appVersion"] == playscale.__version__


@pytest.fixture
def helm(tmp_path):
    """A helm that only notes what it was asked for."""
    program = tmp_path / "helm"
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    program.chmod(0o755)

    def publish(*arguments, **variables):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
        command = [ROOT / ".ci/chart", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        asked = tmp_path / "asked"
        return done, asked.read_text().splitlines() if asked.exists() else []

    return publish


def test_the_chart_is_packaged_and_pushed(helm):
    done, asked = helm("oci://registry.example/charts", SIGN_KEY="team", KEYRING="/ring")
    assert done.returncode == 0, done.stderr
    package = "package charts/playscale --destination dist --sign --key team --keyring /ring"
    assert asked[1:] == [package, f"push dist/playscale-{META['version']}.tgz oci://registry.example/charts"]


def test_without_an_address_nothing_is_pushed(helm):
    done, asked = helm()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in asked] == ["lint", "package"]
    done, asked = helm("registry.example/charts")
    assert (done.returncode, len(asked)) == (2, 2)
    assert done.stderr.strip() == "chart: not the address of an OCI registry: registry.example/charts"


def test_examples_are_in_the_readme():
    text = (CHART / "README.md").read_text(encoding="utf-8")
    assert all(f"(examples/{name}.yaml)" in text for name in EXAMPLES)
    assert Path(CHART / "examples/gcs.yaml").is_file()
