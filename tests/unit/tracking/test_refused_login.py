"""A server that refuses the login is named at once, in one line: no attempt is made again."""

import pytest
from json_server import Handler, serving, url

from playscale.tracking.client import TrackingClient


class Refusing(Handler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.answer("You are not authenticated. Please see the documentation", self.server.status)

    do_POST = do_GET


def questions(client):
    return client.prepare, lambda: client.query(lambda there: there.name)


def test_a_refused_login_is_one_line_at_once():
    with serving(Refusing, asked=[], status=401) as server:
        for ask in questions(TrackingClient("study", url(server))):
            with pytest.raises(ValueError, match=r": the login is refused: set MLFLOW_TRACKING_USERNAME and") as error:
                ask()
            assert str(error.value).startswith(url(server))
            assert "\n" not in str(error.value)
        assert len(server.asked) == 2


def test_what_is_not_allowed_is_said_at_once():
    with serving(Refusing, asked=[], status=403) as server:
        for ask in questions(TrackingClient("study", url(server))):
            with pytest.raises((ValueError, RuntimeError), match="403|not authenticated"):
                ask()
        assert len(server.asked) == 2
