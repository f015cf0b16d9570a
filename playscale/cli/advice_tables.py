"""Tables of `playscale fit` beside those of the laws: off the best size, inference, repeated data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from playscale.cli.console import marked, plain_table
from playscale.report.law_section import method_name
from playscale.report.repetition_section import gain, sentence
from playscale.report.size_section import lost, pairs
from playscale.report.text import printable
from playscale.scaling import numbers


def advice_tables(fit: Mapping[str, Any]) -> list[Table | Text | str]:
    """Return the tables of a fit.json that have rows, and a line for each law of repeated data."""
    tables = [_off_sizes(fit), _inference(fit), _repetition(fit), _corpora(fit), _passes(fit)]
    return [table for table in tables if table.row_count] + _said(fit)


def _off_sizes(fit: Mapping[str, Any]) -> Table:
    head = ("FLOPs", "target", "by", "half: value (95 %)", "lost (95 %)", "twice: value (95 %)", "lost (95 %)")
    table = plain_table("If the size is off: half and twice the best size", *head)
    for half, twice in pairs(fit.get("off_sizes") or []):
        cells = (numbers.with_interval(half, digits=4), lost(half), numbers.with_interval(twice, digits=4), lost(twice))
        table.add_row(f"{half['flops']:.3g}", half["target"], method_name(half["method"]), *cells)
    return table


def _inference(fit: Mapping[str, Any]) -> Table:
    head = (
        "FLOPs in all", "inference", "target", "params (95 %)", "samples", "FLOPs of training", "value (95 %)",
        "size of training alone",
    )  # fmt: skip
    table = plain_table("When inference counts", *head)
    for row in fit.get("inference") or []:
        first = f"{row['flops']:.3g}", numbers.count(row["inference_samples"]), row["target"]
        if row["params"] is None:
            table.add_row(*first, row["reason"])
            continue
        plain = numbers.count(row["plain_params"])
        plain += f": {numbers.number(row['plain_value'], 4)}" if numbers.known(row["plain_value"]) else ": nothing left"
        size = f"{_size(row)}{' (not measured)' if row['params_note'] else ''}"
        cells = (size, numbers.count(row["samples"]), f"{row['training_flops']:.3g}")
        table.add_row(*first, *cells, numbers.with_interval(row, digits=4), plain)
    return table


def _size(row: Mapping[str, Any]) -> str:
    low, high = (numbers.count(row[name]) for name in ("params_low", "params_high"))
    return f"{numbers.count(row['params'])} ({low} to {high})"


def _repetition(fit: Mapping[str, Any]) -> Table:
    table = plain_table("The law of repeated data", "target", "law", "parameter", "value (95 %)", "language models")
    for target, law in (fit.get("repetition") or {}).items():
        for i, (name, given) in enumerate((law.get("parameters") or {}).items()):
            first = (target, law["form"]) if i == 0 else ("", "")
            value = numbers.number(given["value"], 4) if name in ("A", "B") else numbers.with_interval(given, digits=4)
            theirs = law["published"].get(name)
            table.add_row(*first, name, value, "" if theirs is None else numbers.number(theirs, 4))
    return table


def _corpora(fit: Mapping[str, Any]) -> Table:
    head = (
        "corpus", "FLOPs", "target", "params (95 %)", "samples", "passes", "value (95 %)", "twice the corpus gains",
        "no limit gains",
    )  # fmt: skip
    table = plain_table("The best of a budget on a limited corpus", *head)
    for row in fit.get("corpora") or []:
        passes = f"{numbers.number(row['epochs'])}{' (not measured)' if row['note'] else ''}"
        table.add_row(
            numbers.count(row["corpus_samples"]),
            f"{row['flops']:.3g}",
            row["target"],
            _size(row),
            numbers.count(row["samples"]),
            passes,
            numbers.with_interval(row, digits=4),
            gain(row, "twice_gain"),
            gain(row, "fresh_gain"),
        )
    return table


def _passes(fit: Mapping[str, Any]) -> Table:
    head = ("corpus", "params", "target", "passes", "value (95 %)", "worth in corpora seen once")
    table = plain_table("What more passes buy", *head)
    for row in fit.get("corpus_passes") or []:
        cells = numbers.number(row["epochs"]), numbers.with_interval(row, digits=4), numbers.number(row["worth"])
        table.add_row(numbers.count(row["corpus_samples"]), numbers.count(row["params"]), row["target"], *cells)
    return table


def _said(fit: Mapping[str, Any]) -> list[Table | Text | str]:
    """Say when a further pass is worth little; or why a table with repeated data has no law of them."""
    return [
        marked("repeated data", "yellow", f" {target}: {law['reason']}")
        if law["reason"]
        else printable(sentence(target, law))
        for target, law in (fit.get("repetition") or {}).items()
    ]
