"""The colours of the figures: one set for PNG, and CSS variables with a light and a dark value for the page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.colors import to_hex

from playscale.config import METHODS

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
INK, SOFT, GRID, FAINT, LOSS, RETURN, HELD, *_ = (light for light, _ in ROLES.values())
TARGET_COLOUR = {"dev_loss": LOSS, "return_mean": RETURN}
METHOD_COLOUR = {name: method.colour[0] for name, method in METHODS.items()}
METHOD_MARKER = {name: method.marker for name, method in METHODS.items()}


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
