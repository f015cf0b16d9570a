"""NetHack through nle, as in its tasks, but seeded.

NetHackChallenge-v0 refuses seeds, so the game is driven through the layer below gymnasium, with the same options,
actions and ends; the tasks differ in their Rules. A seed fixes the game, also what NetHack takes from the clock: nle's
fix_moon_phase draws the moon, the day and night from the seed, and set_birthday the rest (shopkeepers' names, kinds of
ants). Games equal those of nle without its screen_descriptions, which draw random numbers.

NetHack keeps the levels of a running game in files, in a folder that nle makes in the temporary directory. Without them
it goes on as if nothing were wrong, on the level it is on: so an OSError ends a game whose files are not whole.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
from nle import nethack
from nle.env.base import SKIP_EXCEPTIONS
from nle.nethack.nethack import DLPATH

from playscale.games.game import Env, Metadata, Observation, Outcome, Step
from playscale.games.nethack.rules import CHALLENGE, ESC, SPACE, Rules
from playscale.games.nethack.ttyrec import cut_after, read_recorded, read_xlogfile

LOADING_LIMIT = 1_000  # keys from the start of the game to its first move at most, as in nle.env

_QUIT, _YES = ord("q") | 0x80, ord("y")
_QUITTING = (ESC,) * 8 + (_QUIT, _YES) + (ESC,) * 60
_SHOWN = ("tty_chars", "tty_colors", "tty_cursor")
_READ = ("blstats", "program_state", "internal", "message")
_GAMEOVER, _IN_MOVELOOP = 0, 3  # in nle's program_state
_READ_EXECUTE, _PRIVATE_FIXED = 0x1 | 0x4, 0x02 | 0x10  # flags of mmap
_ASKS, _ASKS_FOR_LINE, _WAITS_FOR_SPACE = 1, 2, 3  # in nle's internal
_FILE_LOST = re.compile(rb"Cannot (create|open) file [^\0]*")  # NetHack's message that a level's file is not there
_C = ord("C")
_LONGEST_PATH = 450  # NetHack's buffers for file names have 512 bytes
_BIRTHDAYS = 2**22  # different ones, over 34 years
SHOPKEEPERS_CHANGE = 257  # their names do, when a game begins so many seconds later


class NetHackEnv:
    """A sequence of games, each in an nle instance of its own (7 ms), so that no game influences the next.

    With `into`, nle writes the screen directly into these arrays: nothing is copied.
    """

    def __init__(
        self,
        max_steps: int,
        record_dir: Path | None = None,
        into: Observation | None = None,
        rules: Rules = CHALLENGE,
    ) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}: it must be at least 1")
        self._max_steps = max_steps
        self._record_dir = None if record_dir is None else record_dir.resolve()
        self._into = into
        self._rules = rules
        self._keys = rules.keys
        self._game: nethack.Nethack | None = None

    def reset(self, seed: int) -> Observation:
        """Start the game of a seed; a running game is abandoned, its recording unfinished."""
        if seed < 0:
            raise ValueError(f"seed is {seed}: it must not be negative")
        self.close()
        self._start(seed)
        assert self._game is not None
        self._game.set_initial_seeds(seed, seed, False)
        self._game.reset(self._ttyrec)
        set_birthday(self._game, seed)
        share_code(self._game._dl.fileno())  # noqa: SLF001 - loaded only by this reset
        self._steps = self._score = self._turns = self._deepest = self._still = self._pressed = 0
        self._terminated = self._truncated = False
        self._character: Metadata = {}
        for _ in range(LOADING_LIMIT):
            if self._program_state[_IN_MOVELOOP]:
                self._read_status()
                return self._observation()
            self._press(SPACE)
        raise RuntimeError(f"NetHack with seed {seed} did not reach its first move in {LOADING_LIMIT} keys")

    def step(self, action: int) -> Step:
        """Press the key of an action. After the end of a game only reset() and outcome() are allowed.

        OSError: NetHack's files are not whole.
        """
        assert self._game is not None, "step() outside a game: reset first"
        ended = self._press(self._keys[action])
        self._steps += 1
        if self._rules.skips_menus:
            ended = ended or self._skip_menus()
            self._read_status()  # only now, as in nle.env: what the last move scores does not count
        else:
            self._read_status()
            if self._program_state[_GAMEOVER]:  # click through the screens after death, as in nle.env
                while not ended and self._internal[_WAITS_FOR_SPACE]:
                    ended = self._press(SPACE)
        observation = self._observation()
        self._terminated = ended
        stuck = self._still >= self._rules.no_progress_timeout
        self._truncated = not ended and (self._steps >= self._max_steps or stuck)
        if self._truncated or ended:
            self._finish()
        penalty = self._rules.penalty if self._still else 0.0
        return Step(observation, self._score, self._terminated, self._truncated, penalty)

    def outcome(self) -> Outcome:
        """Return the result so far; character and cause of death are known once the game is over."""
        metadata = {**self._character, "turns": self._turns, "deepest_level": self._deepest}
        return Outcome(float(self._score), self._steps, self._terminated, metadata)

    def close(self) -> None:
        if self._game is not None:
            self._game.close()
            self._game = None

    def _start(self, seed: int) -> None:
        self._seed = seed
        self._ttyrec = None
        if self._record_dir is not None:
            self._record_dir.mkdir(parents=True, exist_ok=True)
            # by default nle puts the process id into these names; with the seed they are the same in every run
            names = (f"nle.{seed}.{n}.ttyrec{nethack.TTYREC_VERSION}.bz2" for n in itertools.count())
            self._ttyrec = next(str(path) for name in names if not (path := self._record_dir / name).exists())
        self._game = nethack.Nethack(
            observation_keys=_SHOWN + _READ,
            playername=f"Agent-{self._rules.character}",
            ttyrec=self._ttyrec,
            fix_moon_phase=True,
        )
        self._set_buffers()
        self._folder = Path(self._game._vardir)  # noqa: SLF001
        if len(str(self._folder)) > _LONGEST_PATH:
            raise ValueError(f"{self._folder}: its path is too long for NetHack: at most {_LONGEST_PATH} characters")
        self._files = {path.name for path in self._folder.iterdir()}

    def _set_buffers(self) -> None:
        """Give nle the arrays to write to, and keep memoryviews of the numbers: their items are plain ints."""
        assert self._game is not None
        arrays = {key: np.zeros(**nethack.OBSERVATION_DESC[key]) for key in _SHOWN + _READ}
        if self._into is not None:
            arrays |= {key: self._into[key] for key in ("tty_chars", "tty_colors")}
        self._shown = tuple(arrays[key] for key in _SHOWN)
        self._blstats, self._program_state, self._internal, self._message = (arrays[key].data for key in _READ)
        inner = self._game._pynethack  # noqa: SLF001 - nle's wrapper costs as much as a cheap step
        inner.set_buffers(**arrays)
        self._play, self._over = inner.step, inner.done

    def _press(self, key: int) -> bool:
        self._play(key)
        self._pressed += 1
        if self._message[0] == _C and (lost := _FILE_LOST.match(self._message.tobytes())):
            raise self._file_error(lost[0].decode("latin-1"))
        return bool(self._over())

    def _file_error(self, reason: str) -> OSError:
        return OSError(f"{self._folder}: NetHack's files of a running game are not whole: {reason}")

    def _skip_menus(self) -> bool:
        """Skip texts, prompts for text, and questions except nle's exceptions; return whether the game ended.

        As in nle.env, what follows a refused question is shown to the player.
        """
        while self._internal[_WAITS_FOR_SPACE] or self._internal[_ASKS_FOR_LINE]:
            if self._press(SPACE if self._internal[_WAITS_FOR_SPACE] else ESC):
                return True
        if self._internal[_ASKS] and not any(word in self._message.tobytes() for word in SKIP_EXCEPTIONS):
            return self._press(ESC)
        return False

    def _observation(self) -> Observation:
        chars, colors, cursor = self._shown
        if self._into is not None:
            self._into["tty_cursor"][:] = cursor
            return self._into
        return {"tty_chars": chars.copy(), "tty_colors": colors.copy(), "tty_cursor": cursor.astype(np.int16)}

    def _read_status(self) -> None:
        blstats = self._blstats
        turns = blstats[nethack.NLE_BL_TIME]
        self._still = self._still + 1 if turns == self._turns else 0
        if turns:  # all zero before the game and after it
            self._turns = turns
            self._score = blstats[nethack.NLE_BL_SCORE]
            self._deepest = max(self._deepest, blstats[nethack.NLE_BL_DEPTH])

    def _finish(self) -> None:
        """End the game, so that NetHack logs it, and close it, so that its recording is complete.

        The keys that quit a truncated game are not actions of the player: they are cut from the recording.
        """
        keys_played = self._pressed
        if self._truncated:
            keys = iter(_QUITTING)
            while not self._press(next(keys)):
                pass
        game = self._read_log()
        names = {"role": "role", "race": "race", "gender": "gender", "alignment": "align", "death": "death"}
        self._character = {name: game.get(field) for name, field in names.items()}
        self._deepest = max(self._deepest, int(game.get("maxlvl", 0)))
        self.close()
        if self._ttyrec is not None:
            if self._truncated:
                cut_after(Path(self._ttyrec), keys_played)
            else:
                read_recorded(Path(self._ttyrec))

    def _read_log(self) -> dict[str, str]:
        """Return NetHack's line about the game that has just ended, and add it to the log beside the recording.

        The line there also says the seed.
        """
        try:
            lost = self._files - {path.name for path in self._folder.iterdir()}
            lines = [] if lost else read_xlogfile(self._folder / "xlogfile")
        except OSError as error:
            raise self._file_error(str(error.strerror)) from error
        if lost:
            raise self._file_error(f"no {', '.join(sorted(lost))}")
        game = lines[-1] if lines else {}
        if game and self._record_dir is not None:
            seeded = {"seed": str(self._seed), **game}  # nle.dataset takes the last field for the recording's name
            with (self._record_dir / f"nle.{self._seed}.xlogfile").open("a", encoding="latin-1") as log:
                log.write("\t".join(f"{name}={value}" for name, value in seeded.items()) + "\n")
        return game


def make_env(
    max_steps: int, record_dir: Path | None = None, into: Observation | None = None, rules: Rules = CHALLENGE
) -> Env:
    """Return NetHack, truncated after `max_steps` actions; with `record_dir`, nle records the games there."""
    return NetHackEnv(max_steps, record_dir, into, rules)


def set_birthday(game: nethack.Nethack, seed: int) -> None:
    """Set the time at which a game began, which NetHack has taken from the clock, to one that follows from its seed.

    Call it when nle has just started the game: before its first level with a shop.
    """
    libc = _libc()
    library = libc.dlopen(game.dlpath.encode(), os.RTLD_LAZY | os.RTLD_NOLOAD)
    ctypes.c_long.from_address(libc.dlsym(library, b"ubirthday")).value = SHOPKEEPERS_CHANGE * (seed % _BIRTHDAYS)
    libc.dlclose(library)


def share_code(copy: int) -> None:
    """Map the code of nle's own file over that of the loaded library whose file descriptor is `copy`.

    NetHack keeps its state in global variables, so nle loads its library anew for every game, from a copy in memory. 32
    games that take turns then run through 32 copies of the same 2.2 MB of code, and a step takes four times as long as
    that of a single game; with shared code, half to two thirds of that (docs/performance.md). The code is position
    independent, so the pages are the same bytes; data stays separate for each game. Only on Linux; OSError if it fails.
    """
    if sys.platform != "linux":
        return
    inode = str(os.fstat(copy).st_ino)
    for line in Path("/proc/self/maps").read_text(encoding="latin-1").rstrip("\n").split("\n"):
        addresses, permissions, offset, _, owner, *name = line.split(maxsplit=5)
        if owner == inode and permissions == "r-xp" and "memfd:nle.so" in name[0]:
            start, end = (int(text, 16) for text in addresses.split("-"))
            address = _libc().mmap(start, end - start, _READ_EXECUTE, _PRIVATE_FIXED, _library(), int(offset, 16))
            if address != start:
                raise OSError(ctypes.get_errno(), f"{DLPATH}: cannot map its code")


@cache
def _library() -> int:
    return os.open(DLPATH, os.O_RDONLY | os.O_CLOEXEC)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.dlopen.restype = libc.dlsym.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
    libc.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    libc.dlclose.argtypes = [ctypes.c_void_p]
    return libc
