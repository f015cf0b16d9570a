"""The tables of `playscale study plan`."""

import io

import pytest
import toy_game

from playscale.cli.console import plain_console, print_table
from playscale.cli.study_plan import _read_fit, plan_tables
from playscale.scaling.gpu import hardware
from playscale.study.preview import AgentPlay, gpu_machine, known_play, preview
from playscale.study.spec import parse_spec

SPEC = """
name: q
game: recall
source: {collect: {games: 10, max_steps: 1000}}
sizes: [10k, 40k]
budgets: [1e9, 4e9]
held_out: [3.2e12]
max_budget: {10k: 4e9}
seeds: [0, 1]
"""


def printed(width):
    spec = parse_spec(SPEC)
    plan = preview(spec, gpu_machine(hardware("h100", 0.5)), known_play(spec, None), AgentPlay(100.0), price=2.5)
    console = plain_console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    for table in plan_tables(plan):
        print_table(table, console)
    return console.file.getvalue()


def test_plan_crops_nothing_at_80_columns(monkeypatch):
    toy_game.register(monkeypatch)
    wide, narrow = printed(200), printed(80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in narrow
    for part in ("3.2e+12*", "no prior here", "above the size's max_budget", "4 (2 seeds)", "at most 9k", "1,000"):
        assert part in wide
        assert part in narrow


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"methods": 3}',
        '{"points": [], "power_laws": ["a"]}',
        '{"points": [{"flops": "x"}], "power_laws": []}',
    ],
)
def test_a_prior_that_is_no_fit_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "fit.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^--prior: [^\n]*: not a fit.json[^\n]*$"):
        _read_fit(path)
