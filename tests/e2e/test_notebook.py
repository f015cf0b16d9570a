"""docs/notebooks: what is stored there is what the notebook gives today.

After a change of its outputs:
    cd docs/notebooks
    jupyter execute --inplace --startup_timeout=600 --NotebookClient.record_timing=False analysis.ipynb
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/notebooks/analysis.ipynb"
LARGEST = 500_000  # bytes, so that GitHub shows it
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
NEAR = 0.02  # of a number: ends of bootstrap intervals differ a little between numerical libraries


def outputs(notebook):
    """The outputs of each cell: kinds, and texts of those that are text."""
    found = []
    for cell in (one for one in notebook.cells if one.cell_type == "code"):
        data = [output.get("data", {"text/plain": output.get("text", "")}) for output in cell.outputs]
        found.append([sorted(data_of) for data_of in data])
        found += [
            str(data_of.get("text/html") or data_of["text/plain"]) for data_of in data if "image/png" not in data_of
        ]
    return found


def words(text):
    return NUMBER.sub(" ", text).split()


def assert_near(now, before):
    """Numbers may differ by a unit of their last digit, ends of bootstrap intervals by NEAR."""
    for one, other in zip(NUMBER.findall(now), NUMBER.findall(before), strict=True):
        unit = 10.0 ** -len(other.partition(".")[2])
        assert float(one.replace(",", "")) == pytest.approx(float(other.replace(",", "")), rel=NEAR, abs=unit), before


def test_stored_notebook_has_outputs_without_errors_and_is_small():
    cells = [one for one in json.loads(NOTEBOOK.read_text())["cells"] if one["cell_type"] == "code"]
    assert {output["output_type"] for cell in cells for output in cell["outputs"]} <= {"execute_result", "display_data"}
    assert all(cell["outputs"] for cell in cells)
    assert NOTEBOOK.stat().st_size < LARGEST


@pytest.mark.slow  # fits and designs with as many draws as anybody takes
def test_notebook_gives_what_is_stored():
    import nbformat
    from nbclient import NotebookClient

    stored, run = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    NotebookClient(
        run, timeout=1000, startup_timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    for before, now in zip(outputs(stored), outputs(run), strict=True):
        if isinstance(before, list):
            assert now == before
        else:
            assert words(now) == words(before)
            assert_near(now, before)
