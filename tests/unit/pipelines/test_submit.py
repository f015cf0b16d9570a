"""Reach a Kubeflow Pipelines server."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from playscale_pipelines.submit import reach


def test_an_endpoint_without_a_scheme_that_has_no_tls_is_told_of_http():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ValueError, match=rf"https://{place}: no secure .*WRONG_VERSION.* is http://{place}$"):
            reach(place)
        server.shutdown()
