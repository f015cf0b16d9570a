"""The expert: a scripted player that sees the terminal only."""

from __future__ import annotations

import random
import re

from playscale.games.game import Observation, Player
from playscale.games.nethack.actions import action_of
from playscale.games.nethack.level import DIRECTIONS, KEY_OF_STEP, Level
from playscale.games.nethack.screen import Screen

VERSION = 1

_ESC, _MORE, _PRAY, _KICK = "\x1b", "\r", "\xf0", "\x04"
_PETS = {ord("d") << 4 | 15, ord("f") << 4 | 15, ord("u") << 4 | 3}
_NEVER_TOUCHED = (
    {ord("e") << 4 | 4, ord("j") << 4 | 4, ord("c") << 4 | 11}
    | {ord("F") << 4 | color for color in range(16) if color not in (10, 5)}
)
_LETTERS = re.compile(r"\[(?:[$-] or )?([a-zA-Z])")
FIRST_PRAYER, NEXT_PRAYER = 150, 700


class Expert:
    """Decides one key at a time."""

    def __init__(self) -> None:
        self.screen = Screen()

    def reset(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.level = Level()
        self.depth = 0
        self.direction = "."
        self.prayed = -1000
        self.asked: tuple[int, int] | None = None
        self.peaceful: dict[int, int] = {}
        self.stuck = 0
        self.turn = -1
        self.last = ("", -1, -1)
        self.food = True
        self.travelled = 0

    def act(self, observation: Observation) -> int:
        screen = self.screen
        screen.read(observation)
        key = self.choose()
        self.last = (key, screen.square, screen.turn)
        return action_of(key)

    def choose(self) -> str:
        screen = self.screen
        if screen.turn != self.turn:
            self.turn, self.stuck = screen.turn, 0
        else:
            self.stuck += 1
        if screen.more or screen.menu:
            return _MORE
        if screen.positioning:
            return ">" if self.last[0] == "_" else "."
        if self.last[0] == ">" and screen.row and self.travelled == -1:
            self.travelled = 0
            return "."
        if screen.prompt:
            return self.answer()
        if self.stuck > 12:
            return _ESC if self.stuck % 2 else self.random.choice("hjklyubns")
        return self.decide()

    def answer(self) -> str:
        message = self.screen.message
        if message.startswith("In what direction"):
            return self.direction
        if message.startswith("Are you sure you want to pray"):
            return "y"
        if message.startswith("Really attack"):
            if self.asked:
                self.peaceful[self.asked[0]] = self.screen.turn
            return _ESC
        if message.startswith("What do you want to eat"):
            letter = _LETTERS.search(message)
            if letter:
                return letter.group(1)
            self.food = False
        return _ESC

    def decide(self) -> str:
        screen = self.screen
        if screen.level != self.depth:
            self.level, self.depth = Level(), screen.level
            self.peaceful = {}
        level = self.level
        self.learn()
        level.look(screen.chars, screen.colors, screen.square)
        hero = level.hero
        low = screen.hp < 6 or screen.hp * 7 < screen.max_hp
        weak = b"Weak" in screen.condition or b"Faint" in screen.condition
        if (low or weak) and screen.turn > FIRST_PRAYER and screen.turn - self.prayed > NEXT_PRAYER:
            self.prayed = screen.turn
            return _PRAY
        for step, key in zip(DIRECTIONS.values(), DIRECTIONS, strict=True):
            if level.monsters >> (hero + step) & 1 and self.hostile(hero + step):
                self.asked = (hero + step, screen.turn)
                return key
        if b"Hungry" in screen.condition and self.food:
            return "e"
        if level.downstairs >> hero & 1:
            return ">"
        return self.explore()

    def hostile(self, square: int) -> bool:
        code = int(self.level.codes[square])
        if code in _PETS or code in _NEVER_TOUCHED:
            return False
        return self.screen.turn - self.peaceful.get(square, -100) > 10

    def learn(self) -> None:
        key, square, turn = self.last
        screen, level = self.screen, self.level
        if key in DIRECTIONS and square == screen.square:
            target = square + DIRECTIONS[key]
            if "locked" in screen.message:
                level.locked |= 1 << target
            elif turn == screen.turn:
                level.blocked |= 1 << target
        if "don't have anything to eat" in screen.message:
            self.food = False

    def explore(self) -> str:
        level = self.level
        passable = (level.floor | level.closed) & ~level.locked
        for targets, ways in (
            (level.downstairs, passable),
            (level.frontier() | level.closed, passable),
            (level.downstairs | level.frontier(), passable | level.traps),
        ):
            path = level.path(targets, ways)
            if path:
                return KEY_OF_STEP[path[0] - level.hero]
        for step in (-80, 1, 80, -1):
            if level.locked >> (level.hero + step) & 1:
                self.direction = KEY_OF_STEP[step]
                level.locked &= ~(1 << level.hero + step) if not level.closed >> (level.hero + step) & 1 else -1
                return _KICK
        path = level.path(level.locked, passable | level.locked)
        if path:
            return KEY_OF_STEP[path[0] - level.hero]
        return self.search()

    def search(self) -> str:
        level = self.level
        here = level.searched.get(level.hero, 0)
        if here % 15:
            level.searched[level.hero] = here + 1
            return "s"
        choices = [
            square for square in _squares(level.reachable(level.floor)) if not level.searched.get(square)
        ]
        if not choices:
            level.searched = {}
            level.blocked = 0
            return "s"
        target = self.random.choice(choices)
        if target == level.hero:
            level.searched[target] = 1
            return "s"
        path = level.path(1 << target, level.floor)
        if not path:
            level.searched[target] = 1
            return "s"
        return KEY_OF_STEP[path[0] - level.hero]


def _squares(plane: int) -> list[int]:
    from playscale.games.nethack.level import squares

    return list(squares(plane))


def make_expert() -> Player:
    return Expert()
