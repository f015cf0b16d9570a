"""Compile the pipelines to YAML."""

from pathlib import Path

from kfp import compiler

from playscale.config import from_yaml
from playscale.storage.files import read_text

from .pods import Pods
from .study_pipeline import study_pipeline


def read_pods(path: Path | None) -> Pods:
    """Read pod settings from a YAML file, for None the defaults; ValueError when it is missing or wrong."""
    if path is None:
        return Pods()
    if not path.is_file():
        raise ValueError(f"{path}: no such file of pod settings; see studies/pods/ for examples")
    return from_yaml(Pods, read_text(path), str(path))


def compile_study(out: Path, pods: Pods) -> Path:
    """Write OUT/study.yaml and return its path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "study.yaml"
    compiler.Compiler().compile(study_pipeline(pods), str(path))
    return path
