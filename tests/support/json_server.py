"""An HTTP server of a test on loopback, whose handler answers in JSON or in text."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers; a subclass says what. It is silent."""

    def answer(self, value, status=200):
        """Send a text as it is, any other value as JSON."""
        text = isinstance(value, str)
        body = (value if text else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler, **attributes):
    """Serve with a handler, to which `self.server` has the attributes; yield the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        vars(server).update(attributes)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()  # seconds to a shutdown
        yield server
        server.shutdown()


def url(server):
    return f"http://127.0.0.1:{server.server_port}"
