"""The pipelines as YAML."""

from pathlib import Path

from kfp import compiler

from pipelines.study import study


def compile_study(out: Path) -> Path:
    """Write OUT/study.yaml; returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "study.yaml"
    compiler.Compiler().compile(study, str(path))
    return path
