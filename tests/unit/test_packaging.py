"""pyproject.toml lists every package, and one version is written everywhere."""

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import playscale

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed():
    folders = PROJECT["tool"]["setuptools"]["package-dir"] | {"playscale": "playscale"}
    found = {
        ".".join([name, *path.relative_to(ROOT / folder).parent.parts])
        for name, folder in folders.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_image_tag_and_chart_has_the_version():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = {name: (ROOT / name).read_text(errors="ignore") for name in files if (ROOT / name).is_file()}
    tags = {(name, tag) for name in texts for tag in re.findall(r"playscale/playscale:(\d+\.\d+\.\d+)", texts[name])}
    assert len(tags) > 5
    tags |= {
        (name, *re.findall(pattern, texts[name], re.MULTILINE))
        for name, pattern in {
            "Dockerfile": r"^ARG VERSION=(.*)$",
            "charts/playscale/Chart.yaml": r"^version: (.*)$",
            "k8s/train/runtime/kustomization.yaml": r"newTag: (.*)$",
        }.items()
    }
    tags.add(("appVersion", *re.findall(r'^appVersion: "(.*)"$', texts["charts/playscale/Chart.yaml"], re.MULTILINE)))
    assert {tag for tag in tags if tag[1:] != (playscale.__version__,)} == set()
    assert f"\n## {playscale.__version__}" in texts["CHANGELOG.md"]


def locked(name):
    """Return the versions in a lock of the image. Each has a hash."""
    text = (ROOT / ".ci" / "locks" / f"{name}.txt").read_text().replace("\\\n", "")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert all(hashes and all(one.startswith("--hash=sha256:") for one in hashes) for _, *hashes in lines)
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin, *_ in lines)}


def test_the_locks_of_the_image_are_those_of_the_project():
    image, cpu, cuda = locked("image"), locked("cpu"), locked("cuda")
    assert "setuptools" in locked("build")
    pins = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    known = {canonicalize_name(name): version for name, version in pins}
    for lock in (image, cuda):
        assert {name: known.get(name, version) for name, version in lock.items()} == lock, "run .ci/lock"
    command = [ROOT / ".ci" / "requirements", "train", "tracking", "kubeflow", "s3", "cluster"]
    wanted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for requirement in map(Requirement, filter(None, wanted)):
        version = (image | cpu)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: run .ci/lock"
    assert cpu["torch"] == f"{cuda['torch']}+cpu"
    assert not set(image) & set(cuda)
