"""Recall in an environment that fails at its first step. Register it with `register(monkeypatch, how)`."""

import toy_game

from playscale.games.game import GAMES


class FailingEnv(toy_game.RecallEnv):
    error: type[Exception]

    def step(self, action):
        raise self.error("planted")


class BugEnv(FailingEnv):
    error = ZeroDivisionError


class UserEnv(FailingEnv):
    error = ValueError


class Bug(toy_game.Recall):
    name = "bug"

    def make_env(self, max_steps, record_dir=None, into=None):
        return BugEnv(max_steps, record_dir, into)


class User(toy_game.Recall):
    name = "user"

    def make_env(self, max_steps, record_dir=None, into=None):
        return UserEnv(max_steps, record_dir, into)


def register(monkeypatch):
    """`get_game("bug")` fails by a bug, `get_game("user")` with a ValueError."""
    monkeypatch.setitem(GAMES, "bug", "failing_game:Bug")
    monkeypatch.setitem(GAMES, "user", "failing_game:User")
