"""A small corpus of the toy game, prepared once."""

import pytest
import s3_server
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


@pytest.fixture(scope="session")
def s3_root(tmp_path_factory):
    """An S3 server; the folder that holds its buckets, of which there is one, and its endpoint."""
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket").mkdir()
    with s3_server.serve(root) as endpoint:
        yield root, endpoint


@pytest.fixture
def s3(s3_root, tmp_path, monkeypatch):
    """The folder behind s3://bucket; boto3 finds the server, and fetched sections go below tmp_path."""
    root, endpoint = s3_root
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("PLAYSCALE_CACHE", str(tmp_path / "kept"))
    return root / "bucket"
