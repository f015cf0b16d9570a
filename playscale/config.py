"""What people write in YAML, read into frozen typed models: every mistake is one line that says where it is."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=Frozen)


def from_yaml(model: type[Model], text: str, where: str) -> Model:
    """A model from YAML text; ValueError of one line, naming the nearest known key for an unknown one."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise ValueError(f"{where}: not valid YAML{f' (line {place.line + 1})' if place else ''}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected a mapping of keys: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(_numbers(data))
    except ValidationError as error:
        raise ValueError(f"{where}: {_explain(error, model)}") from error


def _numbers(value: Any) -> Any:
    """YAML 1.1 reads 3e10 as text; every such text becomes a number."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The most telling of the errors in one line: an unknown key explains a missing one."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        return f"unknown key {place!r}; did you mean {near[0]!r}? known keys: {', '.join(known)}"
    if first["type"] == "missing":
        return f"missing key {place!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        if isinstance(part, int):
            continue  # an item of a list: its keys are those of the list's type
        model = next(kind for kind in _types(model.model_fields[part].annotation) if issubclass(kind, BaseModel))
    return list(model.model_fields)


def _types(annotation: Any) -> list[type]:
    """The classes an annotation names, however deep: of tuple[Toleration, ...] | None, Toleration is one."""
    inside = [kind for part in get_args(annotation) for kind in _types(part)]
    return [*inside, annotation] if isinstance(annotation, type) else inside
