"""A small corpus of the toy game, prepared once."""

import pytest
import toy_game

from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare


@pytest.fixture(scope="session")
def recall_uri(tmp_path_factory):
    """24 games of Recall, some of them dev games."""
    folder = tmp_path_factory.mktemp("recall")
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        games = toy_game.record_games(folder / "games", 24)
        return prepare(games, folder / "corpus", game="recall", workers=1, dev_fraction=0.2).uri


@pytest.fixture
def recall(recall_uri, monkeypatch):
    """The toy game, registered for this test, and a corpus of it."""
    toy_game.register(monkeypatch)
    return Corpus.open(recall_uri)
