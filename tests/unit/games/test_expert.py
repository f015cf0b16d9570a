"""The expert on hand-written screens, and in the real game."""

import numpy as np
import pytest

from playscale.games.nethack.env import make_env
from playscale.games.nethack.expert import make_expert
from playscale.games.nethack.rules import KEYS

STATUS = "Dlvl:{depth} $:0 HP:{hp}(20) Pw:2(2) AC:4 Xp:1/0 T:{turn} {condition}"
WELCOME = "Hello Agent, welcome to NetHack!  You are a neutral female human Valkyrie."
GRAY, BROWN, BLUE, WHITE = 7, 3, 4, 15
ESC = "\x1b"


def screen(rows, message="", cursor=None, colors=None, depth=1, hp=20, turn=1, condition=""):
    """An observation with these rows from line 5 on; the cursor is on the @ unless told."""
    chars = np.full((24, 80), ord(" "), dtype=np.uint8)
    tints = np.full((24, 80), GRAY, dtype=np.int8)
    lines = {0: message, 22: "Agent the Stripling   St:18 Dx:10 Co:18 In:7 Wi:7 Ch:7 Neutral S:0"}
    lines[23] = STATUS.format(depth=depth, hp=hp, turn=turn, condition=condition)
    lines |= {5 + row: text for row, text in enumerate(rows)}
    for row, text in lines.items():
        chars[row, : len(text)] = np.frombuffer(text.encode(), dtype=np.uint8)
    for char, color in (colors or {}).items():
        tints[5:22][chars[5:22] == ord(char)] = color
    if cursor is None:
        cursor = np.argwhere(chars[5:22] == ord("@"))[-1] + (5, 0)
    return {"tty_chars": chars, "tty_colors": tints, "tty_cursor": np.array(cursor, dtype=np.int16)}


ROOM = [" -----", " |...|", " |.@.|", " |...|", " -----"]


@pytest.fixture
def press():
    """Show the expert a screen, get its key; the inventory has been looked at."""
    player = make_expert()
    player.reset(0)

    def press(*arguments, **details):
        return chr(KEYS[player.act(screen(*arguments, **details))])

    assert press(ROOM, WELCOME) == "i"
    assert press([" a - a +1 long sword", " (end)", *ROOM], cursor=(6, 6)) == ESC
    return press


def test_more_and_lists_are_dismissed_with_one_key(press):
    assert press(ROOM, "You hear a door open.--More--", cursor=(0, 29)) == ESC
    assert press([" Discoveries", " (1 of 2)", *ROOM], cursor=(6, 10)) == ESC


def test_expert_goes_down(press):
    assert press([" -----", " |@>.|", " |...|", " -----"]) == "l"
    assert press([" -----", " |.@.|", " |...|", " -----"], turn=2) == ">"


def test_far_stairs_are_travelled_to(press):
    room = [" ------------", " |@........>|", " ------------"]
    assert press(room) == "_"
    assert press(room, "Where do you want to travel to?  (For instructions type a '?')", cursor=(6, 2)) == ">"
    assert press(room, "staircase down", cursor=(6, 11)) == "."


def test_expert_fights_adjacent_monsters(press):
    assert press([" -----", " |..x|", " |.@.|", " -----"]) == "u"


def test_expert_leaves_floating_eyes_and_peaceful_monsters_alone(press):
    room = [" -----", " |...|", " |.@e|", " |>..|", " -----"]
    assert press(room, colors={"e": BLUE}) == "b"
    room = [" -----", " |...|", " |.@h|", " |>..|", " -----"]
    assert press(room, turn=2) == "l"
    assert press(room, "Really attack the dwarf? [yn] (n)", cursor=(0, 34), turn=2) == ESC
    assert press(room, turn=2) == "b"


def test_a_pet_beside_the_hero_on_arrival_is_no_enemy(press):
    assert press([" -----", " |.d.|", " |.@.|", " |>..|", " -----"], colors={"d": WHITE}) == "b"


def test_expert_prays_when_dying_but_not_too_soon(press):
    assert [press(ROOM, hp=2, turn=50) for _ in range(3)] == ["2", "0", "s"]  # it rests instead
    assert press(ROOM, hp=2, turn=500) == "\xf0"
    assert press(ROOM, "Are you sure you want to pray? [yn] (n)", cursor=(0, 40), hp=2, turn=500) == "y"
    assert press(ROOM, hp=2, turn=600) != "\xf0"


def test_expert_eats_when_hungry(press):
    assert press(ROOM, condition="Hungry") == "e"
    corpse = "There is a newt corpse here; eat it? [ynq] (n)"
    assert press(ROOM, corpse, cursor=(0, 46), condition="Hungry") == "n"
    assert press(ROOM, "What do you want to eat? [dg or ?*]", cursor=(0, 36), condition="Hungry") == "d"


def test_locked_doors_are_kicked(press):
    room = [" -----", " |..@+", " -----"]
    assert press(room, colors={"+": BROWN}) == "l"
    assert press(room, "This door is locked.", colors={"+": BROWN}, turn=2) == "\x04"
    assert press(room, "In what direction?", cursor=(0, 19), colors={"+": BROWN}, turn=2) == "l"


def test_an_unknown_question_is_declined(press):
    assert press(ROOM, "What do you want to name this?", cursor=(0, 31)) == ESC


def test_expert_never_repeats_itself_forever(press):
    """A screen that never changes is answered with different keys before long."""
    keys = {press([" -----", " |.@>|", " -----"]) for _ in range(60)}
    assert len(keys) > 4


def play(seed, max_steps):
    env, player = make_env(max_steps), make_expert()
    observation = env.reset(seed)
    player.reset(seed)
    turns = []
    while True:
        step = env.step(player.act(observation))
        observation = step.observation
        turns.append(env.outcome().metadata["turns"])
        if step.done:
            return env.outcome(), turns


def test_expert_plays_real_games_to_their_end():
    """Twenty real games of at most 1,500 steps: it scores hundreds of times what random keys do, and time passes."""
    games = [play(seed, 1_500) for seed in range(100, 120)]
    assert np.mean([outcome.score for outcome, _ in games]) > 200
    assert np.mean([outcome.metadata["deepest_level"] for outcome, _ in games]) > 3
    for _, turns in games:
        assert max(np.diff(np.flatnonzero(np.diff([0, *turns, turns[-1] + 1]))), default=1) < 120
