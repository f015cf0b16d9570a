"""Path search and reading of planted maps."""

from collections import deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.games.nethack.level import BLUE, BROWN, DIRECTIONS, GRAY, MAP, Level, squares
from playscale.games.nethack.search import best_spot, note_round

TOP, LEFT = 2, 10  # where planted maps stand on the terminal


def look(rows, level=None, brown="+"):
    """A level that shows these rows, with the hero at the @; characters in `brown` are doors."""
    chars = np.full((24, 80), ord(" "), dtype=np.uint8)
    colors = np.full((24, 80), GRAY, dtype=np.int8)
    for row, text in enumerate(rows):
        for column, char in enumerate(text):
            chars[TOP + row, LEFT + column] = ord(char)
            if char in brown:
                colors[TOP + row, LEFT + column] = BROWN
    (hero,) = np.flatnonzero(chars.ravel() == ord("@"))
    level = level or Level()
    level.look(chars.ravel(), colors.ravel(), int(hero))
    return level


def at(row, column):
    return (TOP + row) * 80 + LEFT + column


def test_the_shortest_path_around_a_wall():
    level = look(["-------", "|@....|", "|---..|", "|>....|", "-------"])
    path = level.path(level.downstairs, level.floor)
    assert path == [at(1, 2), at(1, 3), at(2, 4), at(3, 3), at(3, 2), at(3, 1)]
    shut = level.floor & ~(1 << at(2, 4) | 1 << at(2, 5))
    assert level.path(level.downstairs, shut) == []


def test_doors_are_passed_straight():
    level = look(["|@..", "|..+", "|..."])
    assert level.path(1 << at(1, 3), level.floor) == [at(1, 2), at(1, 3)]  # not by the diagonal from (0, 2)
    level = look(["|...", "|..+", "|@.."])
    assert level.path(1 << at(1, 3), level.floor) == [at(1, 2), at(1, 3)]


def test_a_door_under_the_hero_is_remembered():
    level = look(["..", "@+", ".."])
    level = look(["..", ".@", ".."], level)
    first = level.path(1 << at(0, 0), level.floor)[0]
    assert first in (at(1, 0), at(0, 1))


def test_level_reads_what_a_screen_shows():
    level = look(["-----", "|.d@0", "|.^>|", "-----"])
    assert list(squares(level.monsters)) == [at(1, 2)]
    assert list(squares(level.boulders)) == [at(1, 4)]
    assert list(squares(level.traps)) == [at(2, 2)]
    assert list(squares(level.downstairs)) == [at(2, 3)]
    assert not level.floor >> at(2, 2) & 1
    assert level.floor >> at(1, 3) & 1


def test_the_frontier_is_beside_the_unknown():
    level = look(["-----", "|...|", "|.@..", "-----"])
    assert list(squares(level.frontier())) == [at(2, 4)]


def test_a_room_is_no_cave():
    assert not look(["--.----", "|.....|", "|..@..-##", "|.....|", "-------"], brown="").cave()
    assert look(["  --.--- ", "--...  --", "|.  .@..|", "--..  ---", " ---.- "]).cave()


def test_search_goes_to_the_dead_end():
    """Of a closed room with a corridor that just ends, the corridor's end is searched first, then another place."""
    rows = ["-------", "|..@..|", "|......######", "-------"]
    level = look(rows)
    assert best_spot(level, level.floor) == at(2, 12)
    level = look([row.replace("@", ".") for row in rows[:2]] + ["|......#####@", rows[3]], level)
    for _ in range(3):
        note_round(level)
    assert best_spot(level, level.floor) != at(2, 12)


def slow_distance(floor, doors, start, target):
    """Breadth-first search as it is written in books."""
    queue, distance = deque([start]), {start: 0}
    while queue:
        square = queue.popleft()
        if square == target:
            return distance[square]
        for step in DIRECTIONS.values():
            there = square + step
            diagonal = abs(step) not in (1, 80)
            if there in distance or there not in floor or (diagonal and (square in doors or there in doors)):
                continue
            distance[there] = distance[square] + 1
            queue.append(there)
    return None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("..#+ ", min_size=12, max_size=12), min_size=3, max_size=8), st.data())
def test_paths_are_as_short_as_a_slow_twin_finds(rows, data):
    place = data.draw(st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 11)))
    rows[place[0]] = rows[place[0]][: place[1]] + "@" + rows[place[0]][place[1] + 1 :]
    level = look(rows)
    floor = set(squares(level.floor))
    target = data.draw(st.sampled_from(sorted(floor)))
    expected = slow_distance(floor, set(squares(level.cornered)), level.hero, target)
    path = level.path(1 << target, level.floor)
    assert len(path) == (expected or 0)
    for before, after in zip([level.hero, *path], path, strict=False):
        assert after - before in DIRECTIONS.values()
        assert after in floor


def test_rows_do_not_run_together():
    """A target at the left edge of one row is not beside the right edge of the row above."""
    assert MAP.bit_count() == 21 * 80
    chars = np.full((24, 80), ord(" "), dtype=np.uint8)
    colors = np.full((24, 80), BLUE, dtype=np.int8)
    chars[5, 78] = chars[6, 0] = ord(".")
    level = Level()
    level.look(chars.ravel(), colors.ravel(), 5 * 80 + 78)
    assert level.path(1 << 6 * 80, level.floor) == []
