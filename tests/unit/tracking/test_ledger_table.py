"""The table of a ledger: appended to, whole after a kill, and changes in it are found."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledger_entries import normal_entry

from playscale.scaling.ledger import check
from playscale.tracking.ledger_table import LedgerTable, read_csv, write_csv


@pytest.fixture
def table(tmp_path: Path) -> LedgerTable:
    """Return a table of four forecasts, the first scored and the second void."""
    table = LedgerTable.beside(tmp_path / "laws")
    entries = table.register([normal_entry(flops=10.0**i) for i in range(10, 14)])
    table.score(entries[0].id, [2.8], 0.1)
    table.void(entries[1].id, "diverged")
    return table


def lines(table: LedgerTable) -> list[str]:
    return table.path.read_text().splitlines(keepends=True)


def test_what_is_written_is_only_appended(table: LedgerTable) -> None:
    before = table.path.read_bytes()
    table.register([normal_entry(flops=1e15)])
    assert table.path.read_bytes().startswith(before)
    assert check(table.read()) == []


def test_a_half_last_line_is_ignored_and_removed_by_the_next_writer(table: LedgerTable) -> None:
    whole = table.path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(start + 1, len(whole) - 1, 29):
        table.path.write_bytes(whole[:end])
        assert len(table.read().events) == 5
        assert check(table.read()) == []
        table.void(list(table.read().entries)[1], "again")
        assert len(lines(table)) == 6
        assert check(table.read()) == []


def test_a_last_line_without_its_end_is_kept(table: LedgerTable) -> None:
    table.path.write_bytes(table.path.read_bytes().rstrip(b"\n"))
    table.register([normal_entry(flops=1e15)])
    assert len(lines(table)) == 7
    assert check(table.read()) == []


def test_concurrent_writers_wait_for_each_other(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        for i in range(5):
            LedgerTable.beside(tmp_path).register([normal_entry(flops=1e12 + 10 * writer + i)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    ledger = LedgerTable.beside(tmp_path).read()
    assert len(ledger.entries) == 20
    assert check(ledger) == []


def test_a_changed_value_is_found_in_the_table(table: LedgerTable) -> None:
    events = [json.loads(line) for line in lines(table)]
    events[0]["value"] *= 1.01
    table.path.write_text("".join(json.dumps(event) + "\n" for event in events))
    (finding,) = check(table.read())
    assert "event 1 (registered" in finding
    assert "was changed" in finding


def test_a_removed_inserted_or_moved_row_is_found_in_the_table(table: LedgerTable, tmp_path: Path) -> None:
    whole = lines(table)
    foreign = LedgerTable.beside(tmp_path / "other")
    foreign.register([normal_entry(flops=7e12)])
    changed = {
        "removed": [*whole[:2], *whole[3:]],
        "first removed": whole[1:],
        "inserted": [*whole[:2], *lines(foreign), *whole[2:]],
        "moved": [whole[1], whole[0], *whole[2:]],
        "damaged": [*whole[:2], "{damaged\n", *whole[3:]],
    }
    for what, rows in changed.items():
        table.path.write_text("".join(rows))
        assert check(table.read()), what


def test_a_ledger_is_the_same_after_export_and_import(table: LedgerTable, tmp_path: Path) -> None:
    write_csv(table.read(), tmp_path / "ledger.csv")
    ledger = read_csv(tmp_path / "ledger.csv")
    assert ledger == table.read()
    copy = LedgerTable.beside(tmp_path / "copy")
    assert len(copy.extend(ledger)) == 6
    assert copy.read() == table.read()
    assert copy.extend(ledger) == ()
    copy.register([normal_entry(flops=1e15)])
    with pytest.raises(ValueError, match="holds other events"):
        copy.extend(ledger)


def test_import_refuses_a_csv_that_was_changed_or_is_no_ledger(table: LedgerTable, tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    write_csv(table.read(), path)
    text = path.read_text()
    path.write_text(text.replace("diverged", "lost"))
    with pytest.raises(ValueError, match="not as it was written"):
        LedgerTable.beside(tmp_path / "copy").extend(read_csv(path))
    path.write_text(text.replace("registered", "guessed"))
    with pytest.raises(ValueError, match="line 2: 'guessed' is no event"):
        read_csv(path)
    path.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"ledger.csv: a ledger without events"):
        read_csv(path)
    path.write_text("flops,params\n1,2\n")
    with pytest.raises(ValueError, match="has no column event"):
        read_csv(path)
