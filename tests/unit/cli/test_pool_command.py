"""`playscale fit A B C --pool`: what it writes and prints."""

from __future__ import annotations

import json

import numpy as np
import pytest

from playscale.scaling.fit import fit


def write_table(path, share: float, level: float) -> None:
    """Write a loss of four budgets and three sizes, without a game."""
    rows = [
        (c, n, c / 6 / n, level * (c / 1e13) ** -0.1 * np.exp(0.03 * np.log(n / (0.1 * c**share)) ** 2))
        for c in np.geomspace(1e13, 1e15, 4)
        for n in 0.1 * c**share * np.array([0.3, 0.9, 3.0])
    ]
    np.savetxt(path, rows, delimiter=",", header="flops,params,samples,dev_loss", comments="")


@pytest.mark.slow
def test_three_tables_are_fitted_apart_and_pooled(command_here, tmp_path, monkeypatch):
    monkeypatch.setitem(fit.__kwdefaults__, "replicates", 20)
    for name, share, level in (("lstm", 0.5, 1.0), ("transformer", 0.53, 7.0), ("gru", 0.48, 0.2)):
        write_table(tmp_path / f"{name}.csv", share, level)
    code, printed, stderr = command_here(
        "fit", "lstm.csv", "transformer.csv", "gru.csv", "--pool", "--out", "laws", "--forecast", "1e17"
    )
    assert not code, stderr
    whole = json.loads((tmp_path / "laws" / "fit.json").read_text())
    assert set(whole["methods"]) == {"lstm", "transformer", "gru"}
    assert set(whole["pool"]["tables"]) == {"lstm", "transformer", "gru"}
    assert {row["quantity"] for row in whole["pool"]["exponents"]} == {"params", "samples", "dev_loss"}
    assert len(whole["pool"]["forecasts"]) == 9
    assert "Exponents pooled over tables" in printed
    assert "best parameters for the dev loss" in printed
    page = (tmp_path / "laws" / "report.html").read_text()
    for text in ("Exponents pooled over tables", "a further table", "missed by, own", "by the pooled one"):
        assert text in page
    drawn = {path.name for path in (tmp_path / "laws" / "figures").glob("pooled_*.png")}
    assert drawn == {f"pooled_dev_loss_{quantity}.png" for quantity in ("params", "samples", "dev_loss")}
