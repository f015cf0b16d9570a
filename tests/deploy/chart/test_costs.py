"""The GPU hours in docs/cluster.md are what playscale's own figures of the GPUs give."""

from pathlib import Path

import pytest

from playscale.scaling.gpu import hardware

TEXT = (Path(__file__).parents[3] / "docs/cluster.md").read_text(encoding="utf-8")
COLUMNS = [("h100", 0.3), ("h100", 0.05), ("a100", 0.3)]


def rows():
    table = TEXT[TEXT.index("## What it costs") : TEXT.index("Multiply by your price")]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_cost_table_counts_hours(row):
    _, runs, flops, *hours = row
    product = 1.0
    for factor in runs.split(" x "):
        product *= float(factor.split()[0])
    assert float(flops) == pytest.approx(product)
    for (gpu, utilisation), said in zip(COLUMNS, hours, strict=True):
        assert float(said.replace(",", "")) == pytest.approx(hardware(gpu, utilisation).hours(product), rel=0.05)


def test_cost_table_has_rows():
    assert len(rows()) >= 4
