import os
import re
from dataclasses import replace

import numpy as np
import pytest
from report_study import make_replay

from playscale.cli.terminal_player import FAR, Playback
from playscale.cli.terminal_screen import View, draw, panel, sparkline
from playscale.rollout.decisions import Decisions

SIZE = os.terminal_size((120, 40))


def plain(text):
    """The lines of a drawn screen without what steers the terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\r\n")


def test_keys_move_and_stop():
    one = Playback(500)
    assert one.playing
    for key, wanted in (
        ("forward", 1), ("far forward", 1 + FAR), ("back", FAR), ("end", 499), ("far back", 399), ("start", 0),
        ("back", 0),
    ):  # fmt: skip
        one.key(key)
        assert (one.frame, one.playing) == (wanted, False)
    for digit in "123":
        one.key(digit)
    one.key("rub")
    one.key("go")
    assert (one.frame, one.typed) == (11, "")
    one.key("go")  # nothing was typed
    assert one.frame == 11


def test_it_plays_at_its_speed_to_the_end_and_again():
    one = Playback(100)
    one.key("faster")
    one.advance(1.05)
    assert one.frame == 21
    one.advance(0.05)
    assert one.frame == 22
    one.key("slower")
    one.advance(1.0)
    assert one.frame == 32
    one.advance(60.0)
    assert (one.frame, one.playing) == (99, False)
    one.key("toggle")
    assert (one.frame, one.playing) == (0, True)


def test_a_game_of_one_screen_does_not_play():
    one = Playback(1)
    one.advance(9.0)
    assert (one.frame, one.playing) == (0, False)


@pytest.mark.parametrize("frames", [[5, 6, 599, 0, 300]])
def test_screens_are_right_in_any_order(frames):
    view = View(make_replay(600))
    for frame in frames:
        lines = plain(draw(view, frame, True, 5, "", SIZE))
        assert lines[0].rstrip() == f"Turn {frame}."
        assert lines[12].rstrip() == " " * (1 + frame % 70) + "@"
        assert f"step {frame + 1} of 600, score {10 * frame:,}, playing, speed 5x" in lines


def test_cursor_is_reversed_and_colours_can_be_off(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    replay = make_replay(5)
    replay = replace(replay, screens=replace(replay.screens, cursor=np.zeros((5, 2), np.uint8)))
    row = View(replay).lines(3, 80, coloured=True)
    assert row[0].startswith("\x1b[0;7mT")
    assert re.search(r"\x1b\[0;\d\dm@", row[12])
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[0;[39]\d", draw(View(replay), 3, False, 1, "", SIZE))


def test_decisions_stand_beside_the_game_or_below_it():
    likely, share = np.array([[0] * 5, [1] * 5], np.uint16), np.array([[0.7] * 5, [0.25] * 5], np.float32)
    decisions = Decisions(likely, share, np.full(5, 0.25, np.float32), np.full(5, -1.5, np.float32))
    replay = replace(make_replay(5), actions=("north", "so\x1buth"), action=np.ones(5, np.int64), decisions=decisions)
    wanted = ["takes so\x1buth (25.0%)", "  70.0% north", "> 25.0% so\x1buth", "value -1.5"]
    assert panel(replay, 2) == wanted
    beside = plain(draw(View(replay), 2, False, 1, "17", SIZE))
    assert beside[2][82:] == "> 25.0% so?uth"
    assert "go to 17" in beside[24]
    below = plain(draw(View(replay), 2, False, 1, "", os.terminal_size((80, 40))))
    assert below[25] == "takes so?uth (25.0%)"
    assert panel(replace(replay, decisions=None), 2) == ["action so\x1buth"]


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (1, 1), (200, 60)])
def test_no_line_is_wider_than_the_terminal(size):
    lines = plain(draw(View(make_replay(300), 1, 3), 150, True, 1, "", os.terminal_size(size)))
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


def test_a_terminal_without_a_line_to_spare_says_the_step_in_a_pause():
    view, size = View(make_replay(300)), os.terminal_size((80, 24))
    assert plain(draw(view, 150, False, 1, "", size))[-1] == "step 151 of 300, score 1,500, paused, speed 1x"
    assert not plain(draw(view, 150, True, 1, "", size))[-1].strip()


def test_sparkline_has_the_highest_of_each_part():
    assert plain(sparkline(np.array([0, 7, 0, 0, 3, 3]), 3, 5)) == ["█▁▄"]
    assert sparkline(np.array([1, 1]), 9, 1) == "▁\x1b[7m▁\x1b[0m"
    assert plain(sparkline(np.arange(10_000), 8, 9_999)) == ["▁▂▃▄▅▆▇█"]
