"""Who may know whom, and what an import costs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_import_contracts_hold():
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("playscale", {"kfp", "torch", "mlflow", "nle", "numpy"}),
        ("playscale.cli", {"kfp", "torch", "mlflow", "nle", "prometheus_client"}),
        ("playscale.study.steps", {"kfp", "torch", "mlflow", "nle"}),
        ("playscale.study.local_run", {"kfp", "torch", "mlflow", "nle"}),
        ("playscale.cli.train", {"kfp", "torch", "mlflow", "nle"}),
        ("playscale.study.spec", {"kfp", "torch", "mlflow", "nle"}),
        ("playscale.training.bc", {"kfp", "mlflow", "nle", "prometheus_client", "playscale.games.nethack"}),
        ("playscale.scaling.fit", {"kfp", "torch", "mlflow", "matplotlib"}),
        ("playscale.report.report", {"kfp", "torch", "mlflow"}),
        ("playscale_pipelines.study_pipeline", {"torch", "mlflow", "numpy", "playscale.study"}),
    ],
)
def test_importing_does_not_import(module, never):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & never
