"""Who may know whom, and what an import costs."""

import ast
import re
import subprocess
import sys
from collections import Counter
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


@pytest.fixture(scope="module")
def modules():
    """The parsed modules of what is installed, by path."""
    paths = [path for folder in ("playscale", "components", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def test_text_has_an_encoding_and_lines_end_at_newlines_alone(modules):
    """Both would depend on the locale, or on bytes such as 0x85 in the text."""
    careless = []
    for path, module in modules.items():
        calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
        careless += [f"{path}:{call.lineno}" for call in calls if _is_careless(call)]
    assert not careless


def test_names_of_modules_and_classes_stand_once(modules):
    """Exempt are commands, components and the modules of a game's folder, which repeat names by design."""
    own = [path.stem for path in modules if "games" not in path.parts and path.parent.name != "cli"]
    names = Counter(name for name in own if name not in {"__init__", "__main__", "component"})
    names += Counter(node.name for module in modules.values() for node in ast.walk(module) if _is_class(node))
    assert [name for name, count in names.items() if count > 1] == []


def test_names_of_tests_stand_once():
    """pytest imports test files by their names alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_docstrings_begin_with_what_the_thing_is_or_does(modules):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    told = [
        f"{path.name}: {text.splitlines()[0]}"
        for path, module in modules.items()
        for node in ast.walk(module)
        if isinstance(node, kinds) and (text := ast.get_docstring(node)) and re.match(r"(Of|What|How|Whether)\b", text)
    ]
    assert told == []


def _is_class(node):
    return isinstance(node, ast.ClassDef)


def _is_careless(call):
    if not isinstance(call.func, ast.Attribute):
        return False
    mode = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    is_text = call.func.attr in ("read_text", "write_text") or (call.func.attr == "open" and mode in ("r", "w", "a"))
    return call.func.attr == "splitlines" or (is_text and "encoding" not in {keyword.arg for keyword in call.keywords})
