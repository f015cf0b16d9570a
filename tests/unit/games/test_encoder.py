import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from playscale.agents.layers import count_parameters
from playscale.games.nethack.encoder import (
    CHARS,
    COLORS,
    PARTS,
    NetHackEncoder,
    NetHackWidths,
    encoder_widths,
    friendly,
    patches_around,
    patches_of_map,
)

SCALES = (0.09, 0.1, 0.3, 1.0, 3.0, 10.0)


def screens(lines: dict[int, str], cursor: tuple[int, int] = (5, 7)) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """One sample: text of terminal rows, colour 7 where it is not blank."""
    chars = np.full((1, 24, 80), 32, np.uint8)
    for row, text in lines.items():
        chars[0, row, : len(text)] = np.frombuffer(text.encode(), np.uint8)
    colors = np.where(chars == 32, 0, 7).astype(np.int8)
    obs = {
        "tty_chars": torch.from_numpy(chars),
        "tty_colors": torch.from_numpy(colors),
        "tty_cursor": torch.tensor([cursor], dtype=torch.int16),
    }
    return obs, torch.tensor([3])


def encoder(scale: float = 0.1) -> NetHackEncoder:
    torch.manual_seed(0)
    return NetHackEncoder(encoder_widths(scale), 121)


@pytest.mark.parametrize("scale", SCALES[:4])
def test_features_have_the_promised_length(scale):
    part = encoder(scale)
    assert part(*screens({0: "Hello"})).shape == (1, part.out_features)


def test_every_message_looks_different_even_at_the_smallest_size():
    messages = [
        "",
        "--More--",
        "Hello Agent, welcome to NetHack!--More--",
        "Really attack the peaceful gnome? [yn] (n)",
        "Really attack the peaceful gnome? [ynq] (n)",
        "You see here a dagger.",
        "You see here 2 daggers.",
        "It's a wall.",
        "It's solid stone.",
        "This door is locked.",
        "What do you want to eat? [bc or ?*]",
        "In what direction?",
    ]
    part = encoder(0.09)
    features = [part(*screens({0: message}))[0] for message in messages]
    for i, a in enumerate(features):
        for b in features[:i]:
            assert (a - b).abs().max() > 1e-3


def test_the_same_word_elsewhere_in_the_line_is_told_apart():
    part = encoder()
    near, far = (part(*screens({0: " " * at + "--More--"})) for at in (0, 60))
    assert (near - far).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("row", "seen"),
    [(0, "message"), (1, "map"), (21, "map"), (22, "status"), (23, "status")],
)
def test_each_row_reaches_its_part_and_no_other(row, seen):
    part = encoder(1.0)
    blank, written = (part(*screens(lines, cursor=(12, 70)))[0] for lines in ({}, {row: "Dlvl:1 $:0 HP:16(16)"}))
    widths = encoder_widths(1.0)
    sizes = [widths.message, widths.status, widths.map, widths.crop, widths.action]
    changed = {
        name
        for name, a, b in zip(PARTS, blank.split(sizes), written.split(sizes), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {seen}


def test_colour_cursor_and_previous_action_are_seen():
    part = encoder()
    obs, action = screens({5: "    .#.f."})
    base = part(obs, action)
    colours = obs["tty_colors"].clone()
    colours[0, 5, 5] = 3
    assert not torch.equal(base, part({**obs, "tty_colors": colours}, action))
    assert not torch.equal(base, part({**obs, "tty_cursor": torch.tensor([[5, 8]], dtype=torch.int16)}, action))
    assert not torch.equal(base, part(obs, torch.tensor([121]))), "no action yet is an action of its own"


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_any_bytes_are_a_screen(data):
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    obs = {
        "tty_chars": torch.from_numpy(rng.integers(0, 256, (2, 24, 80), dtype=np.uint8)),
        "tty_colors": torch.from_numpy(rng.integers(-128, 128, (2, 24, 80)).astype(np.int8)),
        "tty_cursor": torch.tensor(
            data.draw(st.lists(st.tuples(st.integers(-1, 30), st.integers(-1, 90)), min_size=2, max_size=2)),
            dtype=torch.int16,
        ),
    }
    assert torch.isfinite(encoder()(obs, torch.tensor([0, 121]))).all()


@pytest.mark.parametrize("drawn", [0.0, 0.15, 1.0])
def test_patches_from_drawn_cells_and_their_gradients_are_those_from_all_cells(drawn):
    part = encoder(0.05)
    cells = torch.randint(1, CHARS * COLORS, (12, 21, 80)).short() * (torch.rand(12, 21, 80) < drawn)
    weights = [part.char_table, part.color_table, part.map.patches.weight, part.map.patches.bias]
    every, only = (patches(cells, part.cell_table()) for patches in (part.map.all_patches, part.map.drawn_patches))
    assert torch.allclose(every, only, atol=1e-5)
    target = torch.randn_like(every)
    gradients = (torch.autograd.grad((x * target).sum(), weights) for x in (every, only))
    for want, got in zip(*gradients, strict=True):
        assert torch.allclose(want, got, rtol=1e-4, atol=1e-3 * float(want.abs().max()))


def test_map_patches_hold_the_cells_they_name():
    cells = torch.arange(2 * 21 * 80).view(2, 21, 80)
    patches = patches_of_map(cells)
    for sample, row, column in ((0, 0, 0), (1, 3, 11), (1, 6, 19)):
        want = cells[sample, 3 * row : 3 * row + 3, 4 * column : 4 * column + 4].flatten()
        assert torch.equal(patches[sample, row, column], want)


@given(st.integers(0, 23), st.integers(0, 79))
@settings(max_examples=60, deadline=None)
def test_the_crop_is_what_a_slow_reading_gives(row, column):
    cells = torch.arange(1, 21 * 80 + 1).view(1, 21, 80)
    crop = torch.zeros(9, 9, dtype=torch.long)
    middle = min(max(row - 1, 0), 20)
    for r in range(9):
        for c in range(9):
            y, x = middle - 4 + r, column - 4 + c
            if 0 <= y < 21 and 0 <= x < 80:
                crop[r, c] = cells[0, y, x]
    patches = patches_around(cells, torch.tensor([[row, column]]))
    want = crop.view(3, 3, 3, 3).transpose(1, 2).reshape(3, 3, 9)
    assert torch.equal(patches[0], want)


@pytest.mark.parametrize("scale", SCALES)
def test_counts_add_up_and_agree_with_torch(scale):
    with torch.device("meta"):
        part = NetHackEncoder(encoder_widths(scale), 121)
    assert tuple(part.params()) == tuple(part.flops()) == PARTS
    assert sum(part.params().values()) == count_parameters(part)
    obs, action = screens({})
    with FlopCounterMode(display=False) as counter:
        part({key: value.to("meta") for key, value in obs.items()}, action.to("meta"))
    assert counter.get_total_flops() == sum(part.flops().values())
    by_module = counter.get_flop_counts()
    for name in ("message", "status", "map", "crop"):
        assert sum(by_module[f"NetHackEncoder.{name}"].values()) == part.flops()[name]


def test_widths_survive_json_and_grow_with_the_scale():
    widths = encoder_widths(0.37)
    assert NetHackWidths(**json.loads(json.dumps(asdict(widths)))) == widths
    columns = [encoder_widths(10 ** (e / 10)) for e in range(-11, 15)]
    for smaller, larger in itertools.pairwise(columns):
        for name, value in asdict(larger).items():
            assert np.all(np.asarray(value) >= np.asarray(asdict(smaller)[name])), name


def test_friendly_widths():
    assert [friendly(w) for w in (1, 3.2, 7, 13, 21, 33, 101, 250)] == [2, 4, 8, 12, 20, 32, 104, 256]
