import numpy as np
import pytest

from playscale.games.nethack.screen import dungeon_levels


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("Dlvl:7 $:0 HP:15(15) Pw:2(2) AC:4 Xp:1/1 T:6", 7),
        ("Dlvl:53 $:12345 HP:-3(15) Pw:2(2) AC:4 Xp:1/1 T:60000 Hungry", 53),
        ("Home 2 $:0 HP:15(15) Pw:2(2) AC:4 Xp:14/1 T:6", 0),
        ("(end)", 0),
        ("", 0),
    ],
)
def test_depth_is_the_dungeon_level_of_the_status_line(line, level):
    chars = np.full((2, 24, 80), ord(" "), np.uint8)
    chars[1, 23, : len(line)] = np.frombuffer(line.encode(), np.uint8)
    assert dungeon_levels(chars).tolist() == [0, level]
