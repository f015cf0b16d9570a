"""Reach a Kubeflow Pipelines server, or say what answered instead."""

from contextlib import contextmanager

import pytest
from json_server import Handler, serving, url

from playscale_pipelines.submit import reach


@contextmanager
def server_that_answers(status):
    class Server(Handler):
        def do_GET(self):
            self.answer({}, status)

    with serving(Server) as server:
        yield url(server)


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, ValueError, "PLAYSCALE_KFP_TOKEN set to a valid token"),
        (404, ValueError, "with 404; no Kubeflow Pipelines server of version 2$"),
        (503, RuntimeError, "with 503; try again later"),
    ],
)
def test_an_answer_that_is_no_health_is_named(status, error, says):
    with server_that_answers(status) as url, pytest.raises(error, match=says):
        reach(url)


def test_an_endpoint_without_a_scheme_that_has_no_tls_is_told_of_http():
    with serving(Handler) as server:
        place = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ValueError, match=rf"https://{place}: no secure .*WRONG_VERSION.* is http://{place}$"):
            reach(place)
