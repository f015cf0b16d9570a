"""The study that `playscale design` writes is run to its end: every cell that it proposes has a point."""

import json

import numpy as np
import pytest
import toy_game
import yaml

from playscale.points import Point, read_points, write_points

SPEC = {
    "name": "toy",
    "game": "recall",
    "sizes": ["14k", "18k"],
    "budgets": [2e8, 8e8],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 128},
    "evaluate": {"episodes": 4, "max_steps": 60},
}
BUDGETS = (1e8, 2e8, 4e8, 8e8)
SIZES = {"10k": 10_000, "14k": 14_000, "18k": 18_000, "28k": 28_000, "40k": 40_000}


def planted():
    """The points of a larger study of the same game: the loss falls to 0.4, the best size grows from 14k to 26k."""
    rng = np.random.default_rng(0)
    for budget in BUDGETS:
        for size, params in SIZES.items():
            off = np.log(params / (14_000 * (budget / 1e8) ** 0.3))
            loss = (0.4 + (budget / 1e8) ** -0.2) * np.exp(0.2 * off**2 + 0.005 * rng.standard_normal())
            name = f"bc-lstm-{size}-s0"
            yield Point(
                game="recall", method="bc", run=name, seed=0, size=size, flops=budget, params=params,
                samples=round(budget / 6 / params), dev_loss=float(loss),
            )  # fmt: skip


@pytest.mark.slow  # a whole study, of which `make test` has one
def test_the_study_that_design_writes_has_a_point_for_each_of_its_cells(tmp_path, cli):
    games = toy_game.record_games(tmp_path / "games", 16)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(SPEC | {"source": {"games": str(games)}}))
    write_points(list(planted()), tmp_path / "points.csv")
    python_path = toy_game.python_path(tmp_path)
    asked = ("points.csv", "--target", "1e10", "--spend", "8e9", "--like", "toy.yaml", "--out", "next")
    proposed = cli("design", *asked, cwd=tmp_path, PYTHONPATH=python_path)
    assert proposed.returncode == 0, proposed.stderr
    runs = json.loads((tmp_path / "next" / "design.json").read_text())["runs"]
    done = cli("study", "run", "next/study.yaml", "--out", "out", cwd=tmp_path, PYTHONPATH=python_path)
    assert done.returncode == 0, done.stderr
    points = {(point.size, point.flops) for point in read_points(tmp_path / "out" / "points.csv")}
    cells = yaml.safe_load((tmp_path / "next" / "study.yaml").read_text())["cells"]
    assert len(cells) == len(runs) >= 3
    grid = {(size, budget) for size in SPEC["sizes"] for budget in SPEC["budgets"]}
    assert points == grid | {(cell["size"], float(budget)) for cell in cells for budget in cell["budgets"]}
