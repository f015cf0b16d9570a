from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.report.replay import CELLS, COLUMNS, ROWS, Replay, ScreenChanges, encode, encode_decisions
from playscale.rollout.decisions import Decisions

TYPES = {"u8": "u1", "u16": "<u2", "i32": "<i4", "f32": "<f4"}


def unpack(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The head and the arrays of packed data, which all begin where the browser can view them."""
    data = zlib.decompress(base64.b64decode(text))
    (length,) = np.frombuffer(data, "<u4", 1)
    head, at, arrays = json.loads(data[4 : 4 + length]), 4 + int(length), {}
    for name, kind, count in head["arrays"]:
        assert at % np.dtype(TYPES[kind]).itemsize == 0
        arrays[name] = np.frombuffer(data, TYPES[kind], count, at)
        at += arrays[name].nbytes
    assert at == len(data)
    return head, arrays


def decode(text: str) -> dict[str, np.ndarray]:
    """What replay.js does, written slowly: every screen from the one before."""
    _, arrays = unpack(text)
    changed, step, chars, colours = (arrays[name] for name in ("changed", "step", "chars", "colours"))
    frames, rows, columns = len(changed), arrays["rows"], arrays["columns"]
    screen, colour = np.full(CELLS, 32, np.uint8), np.zeros(CELLS, np.uint8)
    screens, colourings, change = [], [], 0
    for frame in range(frames):
        cell = 0
        for _ in range(changed[frame]):
            cell += int(step[change])
            screen[cell], colour[cell] = chars[change], colours[change]
            change += 1
        screens.append(screen.copy())
        colourings.append(colour.copy())
    shape = (frames, ROWS, COLUMNS)
    cursor = np.stack([rows, columns], axis=1)
    whole = {"chars": np.array(screens).reshape(shape), "colors": np.array(colourings).reshape(shape), "cursor": cursor}
    return whole | {name: arrays[name] for name in ("score", "depth", "action") if name in arrays}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.floats(0, 1), st.booleans(), st.integers(0, 2**31))
def test_every_screen_comes_back(frames: int, share: float, scored: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chars = rng.integers(0, 256, (frames, ROWS, COLUMNS)).astype(np.uint8)
    colors = rng.integers(0, 16, (frames, ROWS, COLUMNS)).astype(np.int8)
    for frame in range(1, frames):  # most cells stay as they were
        same = rng.random((ROWS, COLUMNS)) > share
        chars[frame][same], colors[frame][same] = chars[frame - 1][same], colors[frame - 1][same]
    cursor = np.stack([rng.integers(0, ROWS, frames), rng.integers(0, COLUMNS, frames)], axis=1).astype(np.int16)
    score = rng.integers(-5, 10**6, frames).astype(np.int32) if scored else None
    cut = frames // 3
    blocks = [
        (a[part], b[part], c[part]) for a, b, c in [(chars, colors, cursor)] for part in (slice(cut), slice(cut, None))
    ]
    screens = ScreenChanges.of(blocks)
    found = decode(encode(Replay("", "", screens, score)))
    assert np.array_equal(found["chars"], chars)
    assert np.array_equal(found["colors"], colors)
    assert np.array_equal(found["cursor"], cursor)
    assert ("score" in found) == scored
    if score is not None:
        assert np.array_equal(found["score"], score)
    shown, own, painted = -1, np.full(CELLS, 32, np.uint8), np.zeros(CELLS, np.uint8)
    for frame in sorted(rng.choice(frames, (frames + 1) // 2, replace=False)):
        screens.advance(own, painted, shown, frame)
        shown = frame
        assert np.array_equal(own.reshape(ROWS, COLUMNS), chars[frame])
        assert np.array_equal(painted.reshape(ROWS, COLUMNS), colors[frame])


def test_a_game_of_five_thousand_screens_is_small() -> None:
    """A map of which some forty cells change from screen to screen, more than in a real game."""
    rng = np.random.default_rng(0)
    frames = 5000
    chars = np.empty((frames, ROWS, COLUMNS), np.uint8)
    chars[0] = rng.choice(np.frombuffer(b" .#-|", np.uint8), (ROWS, COLUMNS))
    for frame in range(1, frames):
        chars[frame] = chars[frame - 1]
        row = rng.integers(ROWS)
        chars[frame, row, rng.integers(0, COLUMNS, 20)] = rng.integers(33, 127, 20)
        chars[frame, 0, :20] = rng.integers(97, 123, 20)
    screens = ScreenChanges.of([(chars, np.full(chars.shape, 7, np.int8), np.zeros((frames, 2), np.int16))])
    assert len(encode(Replay("", "", screens))) < 1_000_000


def test_arrays_that_do_not_fit_are_refused() -> None:
    chars = np.zeros((3, ROWS, COLUMNS), np.uint8)
    colors = np.zeros((3, ROWS, COLUMNS), np.int8)
    cursor = np.zeros((3, 2), np.int16)
    with pytest.raises(ValueError, match=r"cursor is \(2, 2\), not \(3, 2\)"):
        ScreenChanges.of([(chars, colors, cursor[:2])])
    with pytest.raises(ValueError, match="it has no screens"):
        ScreenChanges.of([(chars[:0], colors[:0], cursor[:0])])
    with pytest.raises(ValueError, match=r'replay "game": score is \(2,\), not \(3,\)'):
        Replay("game", "", ScreenChanges.of([(chars, colors, cursor)]), np.zeros(2, np.int32))


def test_a_cursor_beyond_the_screen_is_kept_on_it() -> None:
    chars = np.zeros((1, ROWS, COLUMNS), np.uint8)
    screens = ScreenChanges.of([(chars, chars.astype(np.int8), np.array([[-1, 200]], np.int16))])
    assert decode(encode(Replay("", "", screens)))["cursor"].tolist() == [[0, 79]]


def test_decisions_are_packed_in_thousandths() -> None:
    likely, probability = np.array([[1, 300], [0, 2]], np.uint16), np.array([[0.75, 0.5], [0.2504, 0.1]], np.float32)
    decisions = Decisions(likely, probability, np.array([0.25, 0.5], np.float32), np.array([1.5, -2], np.float32))
    _, arrays = unpack(encode_decisions(decisions))
    assert arrays["likely"].tolist() == [1, 300, 0, 2]
    assert arrays["probability"].tolist() == [750, 500, 250, 100]
    assert arrays["taken"].tolist() == [250, 500]
    assert arrays["value"].tolist() == [1.5, -2]
    assert "value" not in unpack(encode_decisions(replace(decisions, value=None)))[1]
