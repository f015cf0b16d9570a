"""What an output directory is a run of: OUT/run.json. A run goes on only with the settings and corpus it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playscale.corpus.corpus import Corpus
from playscale.storage import read_json, write_json
from playscale.training.config import TrainConfig

SCHEMA = 1
FREE = ("budgets", "held_out", "device", "save_seconds", "compile")
"""What may differ when a run goes on: cells can be added and relabelled, the machine can be another."""


def claim(out: Path, config: TrainConfig, corpus: Corpus) -> None:
    """Write OUT/run.json; ValueError saying what differs when OUT holds a run with other settings or another corpus."""
    path = out / "run.json"
    record = {
        "schema": SCHEMA,
        "method": "bc",
        "config": config.model_dump(mode="json"),
        "corpus": {"uri": str(corpus.uri), "digest": corpus.digest, "game": corpus.game},
    }
    found = read_json(path) if path.is_file() else None
    if found is not None and (differences := _differences(found, record)):
        raise ValueError(f"{out} holds another run ({'; '.join(differences)}): use another output directory")
    if found != record:
        write_json(path, record)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if old.get("schema") != SCHEMA:
        return [f"schema {old.get('schema')}, not {SCHEMA}"]
    found = [
        f"{name} {old['config'].get(name)}, not {value}"
        for name, value in new["config"].items()
        if name not in FREE and old["config"].get(name) != value
    ]
    if old["corpus"]["digest"] != new["corpus"]["digest"]:
        found.append(f"corpus {old['corpus']['uri']}, not {new['corpus']['uri']}, or prepared anew with other games")
    return found
