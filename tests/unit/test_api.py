"""The Python API: the example of docs/api.md runs, names are typed, and importing the package loads nothing else."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import playscale

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
STEPS_OF_0_1 = {
    "collect": ["spec", "out"],
    "prepare": ["spec", "games", "out"],
    "plan": ["spec", "corpus", "out", "tracking_uri", "trained"],
    "train": ["spec", "run", "out", "tracking_uri"],
    "evaluate": ["spec", "run", "checkpoints", "out", "tracking_uri"],
    "fit": ["spec", "out", "tracking_uri"],
}
OWN_TABLE, EXAMPLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-2:]


def test_example_of_the_page_prints_forecasts_and_draws_figures(tmp_path, monkeypatch, capsys):
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLE, "docs/api.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "best dev_loss (vertex): params follows C^" in printed
    assert "return_mean follows dev_loss^-" in printed
    assert "return_mean at 1e+13 FLOPs: " in printed
    figures = list(tmp_path.glob("figures/*.png"))
    assert len(figures) > 5
    assert all(str(path.relative_to(tmp_path)) in printed for path in figures)


def test_example_of_a_table_of_dicts_prints_a_verdict_and_a_forecast(capsys):
    exec(compile(OWN_TABLE, "docs/api.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert re.search(r"can this table carry a forecast\? (yes|with care)", printed)
    assert "best params (vertex) grows as C^0.4" in printed
    assert "not measured: sizes from" in printed


def test_every_name_can_be_imported_and_is_on_the_page():
    for name in playscale.__all__:
        assert getattr(playscale, name).__doc__
        assert f"| `{name}" in PAGE
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = playscale.nothing


def test_names_are_imported_when_first_used():
    code = "import sys, playscale; print(*(m for m in sys.modules if m.startswith(('playscale', 'numpy', 'pydantic'))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["playscale"]


@pytest.mark.slow  # mypy reads numpy and pydantic: half a minute
def test_type_checker_knows_the_names(tmp_path):
    (tmp_path / "snippet.py").write_text(
        "from playscale import Corpus, StudySpec, fit, load_policy, read_points\n"
        'reveal_type(fit(read_points("points.csv")))\n'
        'reveal_type(Corpus.open("corpus"))\n'
        "reveal_type(StudySpec.runs)\n"
        "reveal_type(load_policy)\n"
        'fit("points.csv")\n'
    )
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\nmypy_path = {ROOT}\nfollow_imports = silent\nignore_missing_imports = true\n"
        "[mypy-torch.*,scipy.*,mlflow.*]\nfollow_imports = skip\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "snippet.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for expected in ("playscale.scaling.fit.Fit", "playscale.corpus.corpus.Corpus", "playscale.config.TrainConfig"):
        assert expected in result.stdout, result.stdout
    assert "playscale.agents.checkpoint.Checkpoint" in result.stdout
    assert 'Argument 1 to "fit" has incompatible type "str"' in result.stdout
    assert result.stdout.count("error:") == 1


def test_pipelines_compiled_by_version_0_1_find_their_steps():
    from playscale import steps

    for name, parameters in STEPS_OF_0_1.items():  # TypeError: one is gone, or another one is needed
        inspect.signature(getattr(steps, name)).bind(**dict.fromkeys(parameters))
    assert {"metrics", "page", "report"} <= set(steps.FitResult._fields)  # which the fit component reads
