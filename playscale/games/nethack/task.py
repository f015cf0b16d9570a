"""The names of NetHack's tasks: TASK or TASK/CHARACTER, as in score/val-dwa-law-fem. No nle here: names are cheap."""

from __future__ import annotations

import difflib

ANY = "@"
TASKS = {"challenge": ANY, "score": "mon-hum-neu-mal"}  # by whom each is played when nobody is named: as in nle

_RACES = {"hum": {"law", "neu", "cha"}, "dwa": {"law"}, "elf": {"cha"}, "gno": {"neu"}, "orc": {"cha"}}
# role: races, alignments (NetHack 3.6, src/role.c); Valkyries are female
_ROLES = {
    "arc": ("hum dwa gno", "law neu"),
    "bar": ("hum orc", "neu cha"),
    "cav": ("hum dwa gno", "law neu"),
    "hea": ("hum gno", "neu"),
    "kni": ("hum", "law"),
    "mon": ("hum", "law neu cha"),
    "pri": ("hum elf", "law neu cha"),
    "rog": ("hum orc", "cha"),
    "ran": ("hum elf gno orc", "neu cha"),
    "sam": ("hum", "law"),
    "tou": ("hum", "neu"),
    "val": ("hum dwa", "law neu"),
    "wiz": ("hum elf gno orc", "neu cha"),
}
CHARACTERS = tuple(
    f"{role}-{race}-{alignment}-{gender}"
    for role, (races, alignments) in _ROLES.items()
    for race in races.split()
    for alignment in alignments.split()
    if alignment in _RACES[race]
    for gender in ("mal", "fem")
    if (role, gender) != ("val", "mal")
)
"""Every character that NetHack knows: role, race, alignment, gender."""


def parse_task(text: str) -> tuple[str, str]:
    """Task and character; ValueError naming what is known."""
    task, slash, character = text.partition("/")
    if task not in TASKS:
        raise ValueError(f"nethack has no task {task!r}: known are {', '.join(TASKS)}, as in nethack/score")
    if not slash:
        return task, TASKS[task]
    if character != ANY and character not in CHARACTERS:
        near = difflib.get_close_matches(character, CHARACTERS, n=1, cutoff=0.0)
        raise ValueError(
            f"nethack/{text}: no character {character!r}: "
            f"write role-race-alignment-gender, such as {near[0]}, or {ANY} for any"
        )
    return task, character


def task_name(task: str, character: str) -> str:
    """The one full name of a game: what is the default is left out."""
    whole = f"nethack/{task}" if character == TASKS[task] else f"nethack/{task}/{character}"
    return "nethack" if whole == "nethack/challenge" else whole
