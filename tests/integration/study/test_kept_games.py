"""The games that evaluations keep, with the decisions of their agents, as pages and terminals show them."""

import os
import pty
import re
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy_run
from toy_game import record_games

from playscale.agents.checkpoint import save_checkpoint
from playscale.cli.terminal_player import RawTerminal, play_in_terminal
from playscale.report.replay import Replay
from playscale.rollout.evaluate import evaluate
from playscale.study.kept_games import choose, kept_games, recorded_game, replay_of, replays

pytestmark = pytest.mark.usefixtures("registered", "forked_workers")

RUN, BUDGETS = "bc-lstm-10k-s0", ("4e+09", "8e+09")


@pytest.fixture(scope="module")
def study(tmp_path_factory, registered, forked_workers):
    """A study of two checkpoints of one run, each evaluated with three episodes at temperature 0."""
    out = tmp_path_factory.mktemp("study")
    places = [out / "train" / RUN / "checkpoints" / budget for budget in BUDGETS]
    for number, (place, budget) in enumerate(zip(places, BUDGETS, strict=True)):
        point = {"game": "recall", "run": RUN, "size": "10k", "flops": float(budget), "params": 1e4, "samples": 1e5}
        policy = toy_run.policy(number, value_head=bool(number))
        save_checkpoint(place, policy, {"point": {"method": "bc", "seed": 0, "digest": "d", **point}})
    evaluate(places, 3, out / "evaluate" / RUN, max_steps=60, workers=1, temperature=0.0)
    return out


def test_games_are_listed_by_agent_and_chosen(study):
    games = kept_games(study, str(study))
    assert [game.agent for game in games] == sorted(game.agent for game in games)
    assert {role for game in games for role in game.roles} == {"best", "median", "worst"}
    assert len(kept_games(study / "evaluate", "elsewhere")) == len(games)
    assert {game.budget for game in games} == {4e9, 8e9}
    (chosen,) = choose(games, RUN, 8e9, "best")
    assert chosen.title.startswith(f"{RUN}-8e+09, best")
    for arguments, text in (
        (("nobody",), f"--run: no kept game of 'nobody'; there are those of {RUN}"),
        ((None, 1e9), r"--budget: no kept game at 1e\+09; there are 4e\+09, 8e\+09"),
    ):
        with pytest.raises(ValueError, match=text):
            choose(games, *arguments)


def test_an_agent_that_takes_the_best_action_took_the_most_likely_one(study):
    """Recurrent: from another state than the one it played in it would often have taken another action."""
    games = kept_games(study, str(study))
    for game, replay in zip(games, replays(games, _same, device="cpu", workers=2, progress=_silent), strict=True):
        assert len(replay) == game.play.episode.length
        assert np.array_equal(replay.decisions.likely[0], replay.action)
        assert np.array_equal(replay.decisions.taken, replay.decisions.probability[0])
        assert (replay.decisions.value is not None) == (game.budget == 8e9)
        assert replay.depth.tolist() == [1] * len(replay)


def test_keys_before_the_agents_first_step_are_left_out(study):
    """Two of the recorded steps are taken for the environment's: reading begins after them, with a fresh state."""
    game = next(one for one in kept_games(study, str(study)) if not one.play.episode.terminated)
    whole = replay_of(game, "cpu")
    shorter = replace(game.play.episode, length=len(whole) - 2)
    found = replay_of(replace(game, play=replace(game.play, episode=shorter)), "cpu")
    assert np.array_equal(found.action, whole.action[2:])
    assert len(found.decisions) == len(found) == len(whole) - 2


def test_a_study_that_was_moved_has_its_checkpoints_and_a_changed_one_is_not_used(study, tmp_path):
    shutil.copytree(study, tmp_path / "before")
    moved = study.rename(tmp_path / "moved")
    try:
        (game,) = choose(kept_games(moved, str(moved)), None, 4e9, "best")
        assert replay_of(game, "cpu").decisions is not None
        place = moved / "train" / RUN / "checkpoints" / BUDGETS[0]
        other = place.rename(tmp_path / "other")
        save_checkpoint(place, toy_run.policy(9), {})
        replay = replay_of(game, "cpu")
        assert replay.decisions is None
        assert "without the agent's decisions: " in replay.caption
        (recording,) = game.path.iterdir()
        alone = recorded_game(recording, None, str(other))
        assert alone.play == game.play
        assert replay_of(alone, "cpu").decisions is not None
        assert replay_of(recorded_game(recording, None, str(place)), "cpu").decisions is not None  # another agent's
        copied = tmp_path / recording.name
        copied.write_bytes(recording.read_bytes())
        frames = replay_of(recorded_game(copied, "recall", None), "cpu")
        assert (frames.decisions, frames.title) == (None, recording.name)
        assert replay_of(recorded_game(copied, None, str(other)), "cpu", most=9).decisions.likely.shape == (5, 9)
    finally:
        (tmp_path / "before").rename(study)


def test_a_damaged_recording_is_named(study, tmp_path):
    path = tmp_path / "recall-000000.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=f"{path}: not JSON"):
        list(replays([recorded_game(path, "recall", None)], _same, device="cpu", workers=1, progress=_silent))


def test_games_are_played_in_a_terminal(study, monkeypatch):
    """Wait for what each key brings to the screen, then press the next."""
    games = choose(kept_games(study, str(study)), None, None, "best")
    keys = (
        (b"step ", b" "), (b"paused", b"\x1b[F"), (b"step ", b"1"), (b"go to 1", b"2\r"), (b"step 12 of", b"\x1b[1;2D"),
        (b"step 1 of", b"\x1b[A"), (b"speed 2x", b"n"), (b"game 2 of 2", b"q"),
    )  # fmt: skip
    shown = _in_terminal(lambda: play_in_terminal(games, "cpu"), keys, monkeypatch)
    assert shown.startswith(b"\x1b[?1049h")
    assert shown.endswith(b"\x1b[?1049l")
    assert b"takes " in shown


def test_a_suspension_gives_the_terminal_back(monkeypatch):
    stopped = []
    monkeypatch.setattr("playscale.cli.terminal_player.os.kill", lambda *arguments: stopped.append(arguments))

    def suspend():
        with RawTerminal() as terminal:
            signal.raise_signal(signal.SIGTSTP)
            assert terminal.resumed

    shown = _in_terminal(suspend, (), monkeypatch)
    assert stopped == [(os.getpid(), signal.SIGSTOP)]
    assert re.findall(rb"\?1049[hl]", shown) == [b"?1049h", b"?1049l"] * 2
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL


def test_watching_without_a_terminal_is_refused(main_here, tmp_path):
    code, said = main_here("watch", str(tmp_path))
    assert (code, said) == (2, "playscale: watch plays in a terminal, and here is none: give --html FILE for a page\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((".", "--html", "x.html"), ".: neither a checkpoint, nor with kept or recorded games in it: ."),
        (("nowhere", "--html", "x.html"), "nowhere: there is nothing there"),
        ((".", "--html", "."), "--html: . is a directory; give a file"),
        ((".", "--html", "a/x.html"), "--html: a is no directory; make it first"),
        (
            (".", "--html", "x.html", "--seed", "3"),
            "--seed: only for a checkpoint, but . is a directory",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_page(main_here, tmp_path, arguments, text):
    code, said = main_here("watch", *arguments)
    assert code == 2
    assert said.startswith(f"playscale: {text}")
    assert said.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_a_page_has_the_games_of_a_study_and_of_a_checkpoint(study, command_here, tmp_path):
    code, said, _ = command_here("watch", str(study), "--which", "worst", "--html", "page.html")
    assert (not code, said) == (True, "2 games of 2 agents in page.html\n")
    page = (tmp_path / "page.html").read_text()
    assert page.count('id="frames-') == page.count('id="decisions-') == 2
    place = str(study / "train" / RUN / "checkpoints" / BUDGETS[1])
    code, said, _ = command_here("watch", place, "--seed", "5", "--max-steps", "30", "--html", "one.html")
    assert (not code, said) == (True, "1 game of 1 agent in one.html\n")
    assert "seed 5, 30 steps, cut at the step limit" in (tmp_path / "one.html").read_text()


def test_a_study_in_s3_is_watched(study, s3, command_here, tmp_path):
    shutil.copytree(study, s3 / "study")
    chosen = ("--budget", "4e9", "--which", "best", "--html", "page.html")
    code, said, _ = command_here("watch", "s3://bucket/study", *chosen)
    assert (not code, said) == (True, "1 game of 1 agent in page.html\n")
    assert "s3://bucket/study · 1 game of 1 agent" in (tmp_path / "page.html").read_text()


def test_a_directory_of_recordings_is_watched(command_here, tmp_path):
    record_games(tmp_path / "games", 3)
    code, said, _ = command_here("watch", "games", "--game", "recall", "--html", "page.html")
    assert (not code, said) == (True, "3 games in page.html\n")
    assert "recall; seed 2" in (tmp_path / "page.html").read_text()
    one = ("--run", "recall-000001", "--html", "one.html")
    assert command_here("watch", "games", "--game", "recall", *one)[1] == "1 game in one.html\n"


def _same(replay: Replay) -> Replay:
    return replay


def _silent(text, fraction):
    pass


def _in_terminal(work, keys, monkeypatch) -> bytes:
    """Run `work` on a terminal of 120 x 40; press each key when its text is shown after the one before."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def press():
        at = 0
        for text, key in keys:
            while (found := bytes(shown).find(text, at)) < 0:
                shown.extend(os.read(ours, 65536))
            at = found + len(text)
            os.write(ours, key)
        while True:
            try:
                shown.extend(os.read(ours, 65536))
            except OSError:
                return

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    with os.fdopen(theirs, "r") as given, Path(os.ttyname(theirs)).open("w", encoding="utf-8") as taken:
        monkeypatch.setattr(sys, "stdin", given)
        monkeypatch.setattr(sys, "stdout", taken)
        work()
    thread.join()
    os.close(ours)
    return bytes(shown)
