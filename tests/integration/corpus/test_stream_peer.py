"""The stream beside nle's own reader of recordings: identical tensors, game by game and batch by batch."""

import itertools

import numpy as np
import pytest
from resources import need_recordings

from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare
from playscale.games.nethack.rules import key_to_action
from playscale.rollout.collect import collect
from playscale_benchmarks.data import TtyrecReader, check_same, first_games

pytestmark = pytest.mark.usefixtures("forked_workers")

NAMES = {"tty_chars": "tty_chars", "tty_colors": "tty_colors", "tty_cursor": "tty_cursor", "score": "scores"}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Six games of the expert, of more than a block, and their corpus."""
    folder = tmp_path_factory.mktemp("played")
    collect("nethack", 6, folder / "games", seed=0, workers=2, max_steps=700)
    corpus = prepare(folder / "games", folder / "corpus", workers=2)
    return corpus, TtyrecReader(folder / "games", folder / "ttyrecs.db")


def by_game(columns):
    """Columns of (name of game, arrays [t, ...]) pieces, joined to whole games."""
    games = {}
    for key, piece in columns:
        games.setdefault(key, []).append(piece)
    return {key: {n: np.concatenate([p[n] for p in pieces]) for n in pieces[0]} for key, pieces in games.items()}


def ours(corpus, split, unroll):
    for batch in corpus.stream(batch=1, unroll=unroll, split=split):
        ids = batch["game_id"][:, 0]
        for game in dict.fromkeys(ids[batch["valid"][:, 0]].tolist()):
            yield corpus.games[game].key, {name: batch[name][ids == game, 0] for name in (*NAMES, "action")}


def theirs(peer, first, unroll):
    names = {number: key for key, number in peer.numbers.items()}
    for batch in peer.batches([first], unroll):
        ids = batch["gameids"][0]
        for game in dict.fromkeys(ids[ids != 0].tolist()):
            piece = {name: batch[other][0, ids == game].copy() for name, other in NAMES.items()}
            yield names[game], piece | {"action": key_to_action[batch["keypresses"][0, ids == game]]}


@pytest.mark.slow
def test_every_frame_of_every_game_is_the_same(played):
    corpus, peer = played
    expected = by_game(theirs(peer, corpus.games[0].key, 100))
    assert expected.keys() == {game.key for game in corpus.games}
    dev = by_game(ours(corpus, "dev", 77))
    rounds = itertools.islice(ours(corpus, "train", 50), 400)  # more than a round of the train games
    train = by_game(rounds)
    assert dev.keys() | train.keys() == expected.keys()
    for game in corpus.games:
        for name, array in expected[game.key].items():
            assert len(array) == game.transitions
            read = (dev | train)[game.key][name][: game.transitions]
            assert np.array_equal(read, array), (game.key, name)


@pytest.mark.parametrize(("batch", "unroll"), [(1, 64), (3, 20), (4, 7)])
def test_batches_are_the_same_until_a_game_ends(played, batch, unroll):
    corpus, peer = played
    games = first_games(corpus, batch)
    assert len(set(games)) == batch
    check_same(corpus, peer, games, batch, unroll)


@pytest.mark.slow
def test_real_games_are_the_same(tmp_path):
    folder = next(f for f in sorted(need_recordings().iterdir()) if f.is_dir())
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / folder.name).symlink_to(folder.resolve())
    corpus = prepare(tmp_path / "games", tmp_path / "corpus", workers=2)
    peer = TtyrecReader(tmp_path / "games", tmp_path / "ttyrecs.db")
    games = first_games(Corpus.open(corpus.uri), 4)
    check_same(corpus, peer, games, 4, 80)
