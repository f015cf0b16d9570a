"""The colours of the figures: one set for PNG, and CSS variables with a light and a dark value for the page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.colors import to_hex

from playscale.config import METHODS
from playscale.scaling.methods import unused

# name: (light, dark). Every light value is used once: it is how a colour is found again in a drawn SVG.
# loss and return are Okabe-Ito's blue and vermilion (dark: lightened), distinct with any colour vision.
ROLES: dict[str, tuple[str, str]] = {
    "ink": ("#1d2129", "#e8eaee"),
    "soft": ("#5b6472", "#a3adbb"),
    "grid": ("#e3e6eb", "#2c333d"),
    "faint": ("#9aa3af", "#6b7685"),
    "loss": ("#0067a5", "#5db7f0"),
    "return": ("#c2500a", "#ff9d5c"),
    "held": ("#8a1f7d", "#f092e4"),
} | {name: method.colour for name, method in METHODS.items()}
# Of methods that are not ours: 7 colours and 9 markers, in two cycles that make 63 pairs. As a search found them: with
# any colour vision these and those of our methods lie at least 13 apart in CIELAB, and without a defect 40.
CYCLE = (
    ("#0095ff", "#55aad4"), ("#6a4000", "#ffd400"), ("#ff0080", "#d46a6a"), ("#6a9540", "#aaff95"),
    ("#554080", "#aa6aff"), ("#bf40bf", "#ff2a95"), ("#952a40", "#ff402a"),
)  # fmt: skip
MARKERS = ("v", "P", "*", "X", "<", "d", ">", "p", "h")
ROLES |= {f"other-{i}": pair for i, pair in enumerate(CYCLE)}
INK, SOFT, GRID, FAINT, LOSS, RETURN, HELD, *_ = (light for light, _ in ROLES.values())
TARGET_COLOUR = {"dev_loss": LOSS, "return_mean": RETURN}


SMALL = 3.0  # points of a marker that is not to stand out


class Look(NamedTuple):
    """The way in which the points of a method are drawn, and its name in a legend."""

    colour: str
    marker: str
    label: str
    size: float = 6.0


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Return the look of each method: that of the registry, else the next of a cycle."""
    names = list(methods)
    found = {name: Look(METHODS[name].colour[0], METHODS[name].marker, name) for name in names if name in METHODS}
    others = [name for name in names if name not in METHODS]
    return found | {
        name: Look(CYCLE[i % len(CYCLE)][0], MARKERS[i % len(MARKERS)], name) for i, name in enumerate(others)
    }


def leading_looks(look: Mapping[str, Look], methods: Collection[str], leading: Collection[str]) -> dict[str, Look]:
    """Return the look of each method in a figure that has room for the leading ones: the others are small and grey."""
    rest = Look(FAINT, "o", unused(f"{len(methods) - len(leading)} other methods", methods), SMALL)
    return {name: look[name] if name in leading else rest for name in methods}


def budget_colours(count: int) -> list[tuple[str, str]]:
    """Return (light, dark) for `count` budgets, small to large: viridis without its palest end.

    Large budgets have the most contrast: dark on white, bright on black.
    """
    steps = [i / max(count - 1, 1) for i in range(count)]
    return [(_shade(0.78 * (1 - step)), _shade(0.36 + 0.62 * step)) for step in steps]


def _shade(position: float) -> str:
    return to_hex(colormaps["viridis"](position))


def size_colours(count: int) -> list[tuple[str, str]]:
    """Return (light, dark) for `count` model sizes, small to large: plasma, so that no shade is one of a budget's."""
    steps = [i / max(count - 1, 1) for i in range(count)]
    return [
        (to_hex(colormaps["plasma"](0.75 * (1 - step))), to_hex(colormaps["plasma"](0.35 + 0.55 * step)))
        for step in steps
    ]


def css_variables(budgets: int, sizes: int = 0, prefix: str = "") -> dict[str, tuple[str, str]]:
    """Return every colour a figure can have, as {CSS name: (light, dark)}; `prefix` tells several fits apart."""
    shades = {f"--{prefix}budget-{i}": pair for i, pair in enumerate(budget_colours(budgets))}
    shades |= {f"--{prefix}size-{i}": pair for i, pair in enumerate(size_colours(sizes))}
    return {f"--{name}": pair for name, pair in ROLES.items()} | shades


def css_declarations(variables: dict[str, tuple[str, str]]) -> str:
    """Write `--ink: light-dark(#111, #eee);` and so on: the page's color-scheme decides between them."""
    return " ".join(f"{name}: light-dark({light}, {dark});" for name, (light, dark) in variables.items())


def unique(colours: Sequence[str]) -> bool:
    return len(set(colours)) == len(colours)
