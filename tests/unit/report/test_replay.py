from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.report.replay import CELLS, COLUMNS, ROWS, Replay, encode


def decode(text: str) -> dict[str, np.ndarray]:
    """What replay.js does, written slowly: every screen from the one before."""
    data = zlib.decompress(base64.b64decode(text))
    frames, cells, scored = (int(value) for value in np.frombuffer(data, "<u4", 3))
    at = 12
    arrays = []
    for kind, length in (("<i4", frames), ("<u2", frames), ("<u2", cells), ("u1", cells), ("u1", cells), ("u1", frames), ("u1", frames)):  # fmt: skip # noqa: E501
        arrays.append(np.frombuffer(data, kind, length, at))
        at += arrays[-1].nbytes
    assert at == len(data)
    score, changed, step, chars, colours, rows, columns = arrays
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
    return whole | ({"score": score} if scored else {})


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
    found = decode(encode(Replay("", "", chars, colors, cursor, score)))
    assert np.array_equal(found["chars"], chars)
    assert np.array_equal(found["colors"], colors)
    assert np.array_equal(found["cursor"], cursor)
    assert ("score" in found) == scored
    if score is not None:
        assert np.array_equal(found["score"], score)


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
    replay = Replay("", "", chars, np.full(chars.shape, 7, np.int8), np.zeros((frames, 2), np.int16))
    assert len(encode(replay)) < 1_000_000


def test_arrays_that_do_not_fit_are_refused() -> None:
    chars = np.zeros((3, ROWS, COLUMNS), np.uint8)
    colors = np.zeros((3, ROWS, COLUMNS), np.int8)
    with pytest.raises(ValueError, match=r'replay "game": cursor is \(2, 2\), not \(3, 2\)'):
        Replay("game", "", chars, colors, np.zeros((2, 2), np.int16))
    with pytest.raises(ValueError, match="it has no screens"):
        Replay("game", "", chars[:0], colors[:0], np.zeros((0, 2), np.int16))


def test_a_cursor_beyond_the_screen_is_kept_on_it() -> None:
    chars = np.zeros((1, ROWS, COLUMNS), np.uint8)
    replay = Replay("", "", chars, chars.astype(np.int8), np.array([[-1, 200]], np.int16))
    assert decode(encode(replay))["cursor"].tolist() == [[0, 79]]
