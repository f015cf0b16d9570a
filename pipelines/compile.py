"""Compile the pipelines to YAML."""

import tempfile
from pathlib import Path

from kfp import compiler

from playscale.config import from_yaml
from playscale.storage.files import atomic_file, read_text

from .forecast_pipeline import forecast_pipeline
from .pods import Pods
from .study_pipeline import study_pipeline

PIPELINES = {"study": study_pipeline, "forecast": forecast_pipeline}
"""All pipelines by name."""


def read_pods(path: Path | None) -> Pods:
    """Read pod settings from a YAML file, for None the defaults; ValueError when it is missing or wrong."""
    if path is None:
        return Pods()
    if not path.is_file():
        raise ValueError(f"{path}: no such file of pod settings; see studies/pods/ for examples")
    return from_yaml(Pods, read_text(path), str(path))


def compile_pipeline(out: Path, pods: Pods, name: str = "study") -> Path:
    """Write OUT/NAME.yaml and return its path."""
    path = out / f"{name}.yaml"
    with tempfile.TemporaryDirectory() as folder, atomic_file(path) as file:
        made = Path(folder) / path.name
        compiler.Compiler().compile(PIPELINES[name](pods), str(made))
        file.write(made.read_bytes())
    return path
