"""What an output directory is a run of: OUT/run.json. It goes on only with the settings and sources it began with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playscale.storage.files import read_json, write_json
from playscale.training.config import TrainConfig

SCHEMA = 2
FREE = ("budgets", "held_out", "device", "save_seconds", "compile", "rl.actors", "rl.workers", "rl.teacher")
"""What may differ when a run goes on: cells can be added and relabelled, the machine can be another."""


def claim(out: Path, config: TrainConfig, source: Mapping[str, Any]) -> None:
    """Write OUT/run.json; ValueError saying what differs when OUT holds a run with other settings or other sources.

    `source`: by kind (corpus, teacher) what is learned from; by its digest it is the same, wherever it lies.
    """
    path = out / "run.json"
    record = {"schema": SCHEMA, "config": config.model_dump(mode="json"), "source": source}
    found = read_json(path) if path.is_file() else None
    if found is not None and (differences := _differences(found, record)):
        raise ValueError(f"{out} holds another run ({'; '.join(differences)}): use another output directory")
    if found != record:
        write_json(path, record)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if old.get("schema") != SCHEMA:
        return [f"schema {old.get('schema')}, not {SCHEMA}"]
    before, now = _flat(old["config"]), _flat(new["config"])
    found = [
        f"{name} {before.get(name)}, not {now.get(name)}"
        for name in {**now, **before}
        if name not in FREE and before.get(name) != now.get(name)
    ]
    for kind in {**new["source"], **old["source"]}:
        was, is_ = (record["source"].get(kind, {}) for record in (old, new))
        if was.get("digest") != is_.get("digest"):
            found.append(f"{kind} {was.get('uri')}, not {is_.get('uri')}, or made anew since")
    return found


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Settings within settings under names such as rl.discount."""
    inner = {
        f"{name}.{key}": v for name, value in config.items() if isinstance(value, dict) for key, v in value.items()
    }
    return {name: value for name, value in config.items() if not isinstance(value, dict)} | inner
