"""Who may know whom, and what an import costs."""

import ast
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


def test_text_has_an_encoding_and_lines_end_at_newlines_alone():
    """Both would depend on the locale, or on bytes such as 0x85 in the text."""
    careless = []
    for path in (path for folder in ("playscale", "components", "pipelines") for path in (ROOT / folder).rglob("*.py")):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        careless += [f"{path}:{call.lineno}" for call in calls if _is_careless(call)]
    assert not careless


def _is_careless(call):
    if not isinstance(call.func, ast.Attribute):
        return False
    mode = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    is_text = call.func.attr in ("read_text", "write_text") or (call.func.attr == "open" and mode in ("r", "w", "a"))
    return call.func.attr == "splitlines" or (is_text and "encoding" not in {keyword.arg for keyword in call.keywords})
