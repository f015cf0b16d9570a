"""The expert: a scripted player of NetHack that sees only the terminal.

It explores, fights adjacent monsters, rests, eats and prays when necessary, and descends, with a pick-axe directly
through the floor. Its actions follow from the screen as far as possible, so that it can be imitated: the nearest target
first, directions in a fixed order, one key for every --More-- and list.
"""

from __future__ import annotations

import random
import re

from playscale.games.game import Observation, Player
from playscale.games.nethack import search
from playscale.games.nethack.combat import DWARF, Monsters
from playscale.games.nethack.level import DIRECTIONS, KEY_OF_STEP, STRAIGHT, YELLOW, Level, code
from playscale.games.nethack.rules import action_of
from playscale.games.nethack.screen import Screen, plane

VERSION = "3"

ESC, PRAY, KICK, APPLY = "\x1b", "\xf0", "\x04", "a"
FIRST_PRAYER, NEXT_PRAYER = 120, 500  # turns until the first prayer is safe, and from one to the next
RESTED = 0.8  # fraction of the maximal hit points below which the character rests
PATIENCE = 12  # keys without a turn passing until a random step is tried
THROWERS = {"Rambler", "Tenderfoot", "Footpad"}  # Tourists, Rangers and Rogues start with missiles
_GOLD = code("$", YELLOW)
_PICK = re.compile("pick-axe|broad pick|mattock")
_PICKED = re.compile("([a-zA-Z]) - [^.]*(?:pick-axe|broad pick|mattock)")
_LETTER = re.compile(r"\[(?:[$-] or )?([a-zA-Z])")


class Expert:
    """A player that decides one key at a time."""

    version = VERSION

    def __init__(self) -> None:
        self.screen = Screen()

    def reset(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.items: dict[str, str] | None = None
        self.depth = 0
        self.level, self.monsters = Level(), Monsters()
        self.levels: dict[int, Level] = {}
        self.at_home = False
        self.queue = ""
        self.last, self.last_turn = "", -1
        self.tried, self.tried_at, self.tried_turn = "", 0, -1  # the last key that decide() chose, where and when
        self.messages = ""  # of the game since then
        self.still = 0
        self.direction = "."
        self.prayed = FIRST_PRAYER - NEXT_PRAYER
        self.food = True
        self.throws = False
        self.pick = ""

    def act(self, observation: Observation) -> int:
        screen = self.screen
        screen.read(observation)
        self.still = self.still + 1 if screen.turn == self.last_turn else 0
        self.messages += screen.message
        self.last_turn = screen.turn
        self.last = self.choose()
        return action_of(self.last)

    def choose(self) -> str:
        screen = self.screen
        key = ""
        if screen.more:
            key = ESC
        elif screen.menu:
            key = self.read_menu()
        elif self.tried == "_" and self.last in "_>":
            key = ">" if self.last == "_" else "."
        elif self.queue and (not screen.prompt or screen.message.startswith("Count:")):
            key, self.queue = self.queue[0], self.queue[1:]
        elif screen.prompt:
            key = self.answer()
        elif self.still > PATIENCE:
            key = ESC if self.still % 2 else self.random.choice("hjklyubn")
        return key or self.decide()

    def read_menu(self) -> str:
        if self.last == "i":
            self.items = self.screen.items()
            self.pick = next((letter for letter, text in self.items.items() if _PICK.search(text)), "")
        elif self.tried == ",":
            letters = [letter for letter, text in self.screen.items().items() if _PICK.search(text)]
            chosen = b" + a" in self.screen.raw
            return letters[0] if letters else " " if chosen else ESC
        return ESC

    def answer(self) -> str:
        """Return the reply to the question in the top line."""
        message = self.screen.message
        if message.startswith("In what direction"):
            return self.direction
        if message.startswith("Are you sure you want to pray"):
            return "y"
        if message.startswith("Really attack"):
            target = self.tried_at + DIRECTIONS.get(self.tried.lower(), 0)
            self.monsters.spare(self.level, target, self.screen.turn)
        elif message.startswith("What do you want to use or apply") and self.pick:
            return self.pick
        elif "; eat it?" in message or "; eat one?" in message:
            return "n" if "corpse" in message else "y"
        elif message.startswith("What do you want to eat"):
            letter = _LETTER.search(message)
            if letter:
                return letter.group(1)
        elif message.startswith("What do you want to fire"):
            self.throws = False
        return ESC

    def decide(self) -> str:
        screen = self.screen
        if self.items is None:
            self.at_home = "gnom" in screen.message or "dwar" in screen.message
            self.throws = screen.title in THROWERS
            self.items = {}
            return "i"
        if screen.level != self.depth:
            self.change_level()
        self.learn()
        self.level.look(screen.chars, screen.colors, screen.square)
        self.level.locked &= self.level.closed
        self.monsters.look(self.level, screen.turn)
        self.free = self.level.floor & ~self.monsters.barred
        self.safe = self.free & ~self.level.traps
        self.messages = ""
        self.tried = self.survive() or self.fight() or self.recover() or self.descend() or self.explore()
        self.tried_at, self.tried_turn = screen.square, screen.turn
        return self.tried

    def change_level(self) -> None:
        """Switch to a new level; the old one is kept, since the mines may be left again by the same stairs."""
        screen = self.screen
        self.levels[self.depth] = self.level
        known = self.levels.get(screen.level) if self.tried == "<" else None
        self.level, self.monsters = known or Level(), Monsters()
        if self.tried == ">":
            self.level.upstairs = 1 << screen.square
        elif known:
            known.wrong |= 1 << screen.square
        self.depth = screen.level
        self.tried = ""

    def learn(self) -> None:
        """Update the level by what the last key has shown."""
        screen, level, messages = self.screen, self.level, self.messages
        self.monsters.learn(messages)
        step = DIRECTIONS.get(self.tried.lower(), 0)
        if step:
            target = self.tried_at + step
            if level.boulders >> target & 1 and "in vain" in messages:
                level.immovable |= 1 << target
            if "You kill" in messages and level.codes[target] == DWARF:
                level.loot |= 1 << target
            if screen.square == target and self.monsters.hostile >> target & 1:
                level.statues[target] = int(level.codes[target])  # what can be walked through is no monster
            elif screen.square == self.tried_at:
                self.blocked(1 << target)
        if self.tried == "_" and not (level.downstairs >> screen.square & 1 or self.monsters.hostile):
            level.travel = False  # something blocks the way that the travel command ignores
        picked = _PICKED.search(messages)
        if picked:
            self.pick = picked.group(1)
        if "don't have anything to eat" in messages:
            self.food = False
        if "too hard to" in messages or "cannot dig" in messages or "can't dig" in messages:
            level.undiggable |= 1 << screen.square

    def blocked(self, target: int) -> None:
        """Note why a step to `target` (a plane of one square) did not happen."""
        level, messages = self.level, self.messages
        if "locked" in messages:
            level.locked |= target
        elif "diagonally" in messages:
            level.cornered |= target if "into" in messages else 1 << level.hero
        elif level.boulders & target:
            level.immovable |= target
        elif self.screen.turn == self.tried_turn and not level.monsters & target:
            level.blocked |= target

    def survive(self) -> str:
        screen = self.screen
        dying = screen.hp < 6 or screen.hp * 7 < screen.max_hp
        starving = b"Weak" in screen.condition or b"Faint" in screen.condition
        if (dying or starving) and screen.turn - self.prayed >= NEXT_PRAYER:
            self.prayed = screen.turn
            return PRAY
        if self.food and (starving or b"Hungry" in screen.condition) and not self.monsters.adjacent(self.level.hero):
            return "e"
        return ""

    def fight(self) -> str:
        near = self.monsters.adjacent(self.level.hero)
        if near:
            return near[0]
        if self.throws:
            self.direction = self.monsters.in_line(self.level)
            if self.direction:
                return "f"
        return ""

    def descend(self) -> str:
        level = self.level
        here = 1 << level.hero
        if level.loot & here:
            level.loot ^= here
            if not self.pick:
                return ","
        if level.upstairs & here and 2 < self.depth < 6 and not self.at_home and not self.pick and level.cave():
            level.upstairs = 0
            return "<"
        if (level.downstairs | level.tried) & ~level.wrong & here:
            level.tried |= here
            return ">"
        if self.pick and not (level.undiggable | level.upstairs) & here:
            self.direction = ">"
            return APPLY
        return ""

    def recover(self) -> str:
        """Rest when no hostile monster is in sight."""
        if self.screen.hp < RESTED * self.screen.max_hp and not self.monsters.hostile:
            return self.wait()
        return ""

    def wait(self) -> str:
        """Search for 20 turns, which is also how to rest."""
        search.note_round(self.level)
        self.queue = "0s"
        return "2"

    def explore(self) -> str:
        level = self.level
        free, safe = self.free, self.safe
        path = [] if self.pick else level.path(level.loot & safe, safe)
        if path:
            return self.walk(path)
        path = level.path(level.downstairs & ~level.wrong | level.shafts, safe)
        if len(path) == 1:
            level.tried |= level.shafts & 1 << path[0]
        if level.travel and not (level.shafts | level.wrong) and len(path) > 3:
            return "_"
        path = (
            path
            or level.path(plane(level.codes == _GOLD) & ~self.monsters.barred, safe)
            or level.path(level.frontier() & safe, safe)
            or (level.path((level.frontier() | level.downstairs & ~level.wrong) & free, free | level.traps))
        )
        if path:
            return self.walk(path)
        if level.wrong:  # there is no other way down
            level.wrong, self.at_home = 0, True
        return self.force() or self.break_through() or self.look_for_doors()

    def walk(self, path: list[int]) -> str:
        """Return the first key of a path: a run if that stops by itself before the path turns, else one step."""
        level = self.level
        step = path[0] - level.hero
        key = KEY_OF_STEP[step]
        straight = 1
        while straight < len(path) and path[straight] - path[straight - 1] == step:
            straight += 1
        beyond = path[straight - 1] + step
        if straight > 2 and not (level.floor | level.boulders | level.traps) >> beyond & 1:
            return key.upper()
        return key

    def force(self) -> str:
        """Kick locked doors, push boulders."""
        level = self.level
        for key, step in STRAIGHT.items():
            if level.locked >> (level.hero + step) & 1:
                self.direction = key
                return KICK
        path = level.path(level.locked, self.safe) or level.path(level.boulders & ~level.immovable, self.safe)
        return self.walk(path) if path else ""

    def break_through(self) -> str:
        """Fight a monster that is dangerous to touch when it blocks the only way and no hostile one is in sight."""
        level = self.level
        if self.monsters.hostile:
            return ""
        ways = self.safe | self.monsters.untouchable
        path = level.path((level.frontier() | level.downstairs & ~level.wrong) & ways, ways)
        return self.walk(path) if path else ""

    def look_for_doors(self) -> str:
        """Go to the square where searching is most valuable, and search there."""
        level = self.level
        path = level.path(1 << level.spot, self.safe) if level.spot else []
        if not path and level.spot != level.hero:
            level.spot = search.best_spot(level, self.safe)
            path = level.path(1 << level.spot, self.safe)
        if path:
            return self.walk(path)
        level.spot = level.blocked = 0
        return self.wait()


def make_expert() -> Player:
    return Expert()
