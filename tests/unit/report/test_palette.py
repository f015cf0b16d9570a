"""Colours and markers of methods: apart from each other for everybody, and legible on both grounds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from playscale.config import METHODS
from playscale.report.palette import CYCLE, MARKERS, leading_looks, looks

# Machado et al. 2009, doi 10.1109/TVCG.2009.113, severity 1; of linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
GROUNDS = ("#ffffff", "#14181f")  # of the page, light and dark
DISTANCE = 12.0  # CIE 1976; 2.3 is just noticed side by side
PAIRS = [method.colour for method in METHODS.values()] + list(CYCLE)


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, D65."""
    x, y, z = np.cbrt(TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("vision", VISION)
def test_colours_of_methods_are_apart_with_any_vision(vision: str, theme: int) -> None:
    seen = [lab(VISION[vision] @ linear(pair[theme])) for pair in PAIRS]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > DISTANCE


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_of_methods_stand_out_from_the_page(theme: int) -> None:
    ground = TO_XYZ[1] @ linear(GROUNDS[theme]) + 0.05
    for pair in PAIRS:
        own = TO_XYZ[1] @ linear(pair[theme]) + 0.05
        assert max(own / ground, ground / own) >= 3  # WCAG 2.2, graphical objects


def test_every_method_has_a_look_of_its_own() -> None:
    names = ["bc", *(f"method {i}" for i in range(len(CYCLE) * len(MARKERS)))]
    look = looks(names)
    assert len({(one.colour, one.marker) for one in look.values()}) == len(names)
    assert {name: one.label for name, one in look.items()} == dict(zip(names, names, strict=True))
    assert look["bc"].colour == METHODS["bc"].colour[0]


def test_methods_that_do_not_lead_are_grey_and_share_a_name() -> None:
    look = leading_looks(looks(["PPO"]), ["bc", "A2C", "PPO", "DQN"], ["PPO"])
    assert look["bc"] == look["A2C"] == look["DQN"]
    assert look["bc"].label == "3 other methods"
    assert look["PPO"].label == "PPO"
