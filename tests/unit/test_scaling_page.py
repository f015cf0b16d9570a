"""The examples of docs/scaling.md run, and print what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(holding: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the one example that holds a text, and return what it prints."""
    (example,) = (text for text in EXAMPLES if holding in text)
    exec(compile(example, "docs/scaling.md", "exec"), {})  # noqa: S102
    return capsys.readouterr().out


def test_laws_through_the_dev_loss_miss_less(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("through dev loss", capsys)
    missed = {form: float(error) for form, error in re.findall(r"(.+): missed by ([\d.]+)", printed)}
    assert len(missed) == 4
    assert missed["power, through dev loss"] < missed["bounded"]


def test_exponents_of_three_games_are_pooled(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("import fit, pool", capsys)
    assert re.search(r"params: 0\.50\d, .* pooling is kept: (True|False)", printed)
    assert len(re.findall(r"(pong|boxing|qbert): .* alone, .* pooled", printed)) == 9


def test_runs_are_proposed_that_narrow_the_forecast(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(PAGE.parents[1])
    assert re.search(r"dev_loss: the interval is expected to have 0\.\d+ of its width", run("import design", capsys))
