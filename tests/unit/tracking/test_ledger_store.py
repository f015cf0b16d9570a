"""The ledger in MLflow: one run a forecast, and a change in one store and not in the other is found and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_entries import normal_entry

from playscale.scaling.ledger import digest_of
from playscale.tracking.ledger_store import LedgerStore
from playscale.tracking.ledger_table import LedgerTable
from playscale.tracking.uris import sqlite_uri


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a ledger of three forecasts, in both stores."""
    folder = tmp_path_factory.mktemp("ledger")
    table = LedgerTable.beside(folder)
    entries = table.register([normal_entry(flops=10.0**i) for i in (12, 13, 14)])
    store = LedgerStore.at(sqlite_uri(folder / "mlflow.db"))
    store.deliver(table.read(), [entry.id for entry in entries])
    table.score(entries[0].id, [2.8, 2.9])
    table.void(entries[1].id, "diverged")
    store.deliver(table.read(), [entry.id for entry in entries])
    return folder


@pytest.fixture
def ledger(written: Path, tmp_path: Path) -> tuple[LedgerTable, LedgerStore]:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return LedgerTable.beside(tmp_path), LedgerStore.at(sqlite_uri(tmp_path / "mlflow.db"))


def execute(table: LedgerTable, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(table.path.parent / "mlflow.db")) as database, database:
        assert database.execute(statement, values).rowcount


def test_both_stores_agree_and_a_run_shows_the_score(ledger) -> None:
    table, store = ledger
    assert store.check(table.read()) == []
    assert store.check() == []
    assert list(store.ledgers().values()) == [table.read()]
    run = next(run for run in store.runs() if run.data.params.get("state") == "scored")
    assert run.data.metrics["seeds"] == 2
    assert run.data.metrics["crps"] > 0
    assert len(store.runs()) == 3


def test_a_deleted_ledger_is_an_error_wherever_the_store_is_and_a_missing_one_is_empty(written, tmp_path) -> None:
    folder = tmp_path / "no MLflow experiment"
    shutil.copytree(written, folder)
    store = LedgerStore.at(sqlite_uri(folder / "mlflow.db"))
    store.client.query(lambda experiment: experiment.client.delete_experiment(experiment.id))
    with pytest.raises(ValueError, match="was deleted"):
        store.runs()
    assert LedgerStore.at(sqlite_uri(tmp_path / "none.db")).runs() == []


def test_delivering_again_changes_nothing(ledger) -> None:
    table, store = ledger
    before = [run.data.to_dictionary() for run in store.runs()]
    store.deliver(table.read(), list(table.read().entries))
    assert [run.data.to_dictionary() for run in store.runs()] == before


def test_what_mlflow_has_not_got_yet_is_named(ledger) -> None:
    table, store = ledger
    (entry,) = table.register([normal_entry(flops=1e15)])
    (finding,) = store.check(table.read())
    assert finding.startswith(f"{entry.id} (registered) is in the table, not in MLflow")
    store.deliver(table.read(), [entry.id])
    assert store.check(table.read()) == []


def test_an_entry_changed_in_the_table_is_named(ledger) -> None:
    table, store = ledger
    text = table.path.read_text()
    entry = next(iter(table.read().entries.values()))
    table.path.write_text(text.replace(f'"value": {entry.value!r}', '"value": 2.5', 1))
    found = store.check(table.read())
    assert any("event 1 " in text and "was changed" in text for text in found)
    assert any(entry.id in text and "value; it was changed in the table" in text for text in found)


def test_the_last_row_removed_from_the_table_is_named(ledger) -> None:
    table, store = ledger
    table.path.write_text("".join(table.path.read_text().splitlines(keepends=True)[:-1]))
    (finding,) = store.check(table.read())
    assert "(void) is in MLflow, not in the table" in finding


def test_a_row_inserted_at_the_end_of_the_table_with_right_digests_is_named(ledger) -> None:
    table, store = ledger
    (entry,) = table.register([normal_entry(flops=9e15)])
    assert [text.split()[0] for text in store.check(table.read())] == [entry.id]


def test_rows_of_the_table_in_another_order_are_named(ledger) -> None:
    table, store = ledger
    one, two, *rest = table.path.read_text().splitlines(keepends=True)
    table.path.write_text("".join([two, one, *rest]))
    assert any("order was changed" in text for text in store.check(table.read()))


def test_a_value_changed_in_mlflow_is_named(ledger) -> None:
    table, store = ledger
    run = next(run for run in store.runs() if run.data.params.get("state") == "scored")
    execute(table, "UPDATE latest_metrics SET value = 2.6 WHERE key = 'value' AND run_uuid = ?", run.info.run_id)
    (finding,) = store.check(table.read())
    assert "MLflow shows value 2.6" in finding


def test_an_event_changed_in_mlflow_is_named_even_with_its_digest(ledger) -> None:
    table, store = ledger
    run = store.runs()[0]
    event = json.loads(run.data.params["registered"]) | {"corpus": "another"}
    event["digest"] = digest_of(event)
    change = "UPDATE params SET value = ? WHERE key = 'registered' AND run_uuid = ?"
    execute(table, change, json.dumps(event), run.info.run_id)
    found = store.check(table.read())
    assert any(event["id"] in text and "not the same in the table and MLflow: corpus, digest" in text for text in found)
    assert store.check()


def test_a_run_removed_from_mlflow_is_named(ledger) -> None:
    table, store = ledger
    run = store.runs()[-1]
    store.client.query(lambda experiment: experiment.client.delete_run(run.info.run_id))
    (finding,) = store.check(table.read())
    assert "is in the table, not in MLflow" in finding


def test_a_run_inserted_in_mlflow_is_named(ledger, tmp_path: Path) -> None:
    table, store = ledger
    elsewhere = LedgerTable(tmp_path / "longer.jsonl")
    elsewhere.path.write_bytes(table.path.read_bytes())
    (entry,) = elsewhere.register([normal_entry(flops=5e15)])
    store.deliver(elsewhere.read(), [entry.id])
    (finding,) = store.check(table.read())
    assert finding.startswith(f"{entry.id} (registered) is in MLflow, not in the table")
