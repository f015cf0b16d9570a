"""Reach a Kubeflow Pipelines server, or say what answered instead."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from playscale_pipelines.submit import reach


@contextmanager
def server_that_answers(status):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ValueError, match=rf"https://{place}: no secure .*WRONG_VERSION.* is http://{place}$"):
            reach(place)
        server.shutdown()
