"""Scaling laws for game-playing agents. docs/api.md shows the Python API.

Each name is imported when it is first used: importing the package imports none of its dependencies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playscale.agents.checkpoint import load_policy
    from playscale.corpus.corpus import Corpus
    from playscale.points import read_points
    from playscale.scaling.design import design
    from playscale.scaling.fit import fit
    from playscale.scaling.pooling import pool
    from playscale.scaling.run_curve import forecast_curve
    from playscale.study.spec import StudySpec

__version__ = "0.2.0"
__all__ = [
    "Corpus", "StudySpec", "__version__", "design", "fit", "forecast_curve", "load_policy", "pool", "read_points",
]  # fmt: skip

_MODULES = {
    "Corpus": "playscale.corpus.corpus",
    "StudySpec": "playscale.study.spec",
    "design": "playscale.scaling.design",
    "fit": "playscale.scaling.fit",
    "forecast_curve": "playscale.scaling.run_curve",
    "load_policy": "playscale.agents.checkpoint",
    "pool": "playscale.scaling.pooling",
    "read_points": "playscale.points",
}


def __getattr__(name: str) -> Any:
    if name == "steps":  # pipelines that version 0.1 compiled import it from here
        return import_module("playscale.study.steps")
    if name not in _MODULES:
        raise AttributeError(f"module 'playscale' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
