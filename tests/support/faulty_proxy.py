"""An HTTP proxy that injects the faults of networks and busy servers by a schedule, and counts them."""

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("refused", "busy", "slow", "cut", "unanswered", "corrupted")
"""refused: closed before anything is read; busy: 503; slow: answered after two seconds; cut: half an answer;
unanswered: forwarded, but closed without an answer; corrupted: one bit of the stored or fetched bytes is flipped.
Not among these, late: forwarded after two seconds and not answered, for a client with a shorter timeout; and the
ANSWERS to what is stored.
"""
ANSWERS = {"denied": (403, "AccessDenied"), "unsupported": (501, "NotImplemented"), "expired": (400, "ExpiredToken")}
ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>planted</Message></Error>'
SLOW_SECONDS = 2.0


class FaultyProxy:
    """Before `endpoint`, a `share` of requests (0 ... 1) meet a fault: the `kinds` in turn, `count` faults at most.

    Which requests these are follows from `seed` and the number of the request, never from time. A request that met
    `tolerated` faults in a row gets through, as long as clients give up sooner or later.
    """

    def __init__(self, endpoint, share, kinds=FAULTS, count=10**9, seed=0, tolerated=2):
        self.upstream = urlsplit(endpoint).netloc
        self.share, self.kinds, self.left, self.tolerated = share, kinds, count, tolerated
        self.met, self.injected, self.requests = Counter(), Counter(), 0
        self._schedule, self._bits, self._lock = random.Random(seed), random.Random(seed), threading.Lock()

    def fault(self, method, path, body):
        """Return the fault that this request meets, or None."""
        key = (method, urlsplit(path).path)
        has_object = body if method == "PUT" else method == "GET" and "?" not in path
        with self._lock:
            self.requests += 1
            due = self._schedule.random() < self.share
            if not due or self.left <= 0 or self.met[key] >= self.tolerated:
                self.met[key] = 0
                return None
            kinds = [kind for kind in self.kinds if kind != "corrupted" or has_object]
            kinds = [kind for kind in kinds if kind not in ANSWERS or method == "PUT"]
            if not kinds:
                return None
            kind = min(kinds, key=self.injected.__getitem__)  # in turn
            self.left -= 1
            self.met[key] += 1
            self.injected[kind] += 1
            return kind

    def flipped(self, data):
        """Return the bytes with one bit changed."""
        at = self._bits.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.proxy.fault(self.command, self.path, body)
        self.close_connection = kind in {"refused", "cut", "unanswered", "late"}
        if kind == "refused":
            return
        if kind == "busy" or kind in ANSWERS:
            status, code = ANSWERS.get(kind, (503, "SlowDown"))
            self.reply(status, {"content-type": "application/xml"}, ERROR.format(code).encode())
            return
        if kind in {"slow", "late"}:
            time.sleep(SLOW_SECONDS)
        corrupted = kind == "corrupted"
        status, headers, data = self.forward(self.proxy.flipped(body) if corrupted and body else body)
        if kind not in {"unanswered", "late"}:
            data = self.proxy.flipped(data) if corrupted and not body and data else data
            self.reply(status, headers, data, whole=kind != "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = answer

    def forward(self, body):
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                connection.putheader(name, value)
        connection.endheaders(body)
        with contextlib.closing(connection):
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()

    def reply(self, status, headers, data, whole=True):
        length = headers.get("content-length") if self.command == "HEAD" else None
        headers = headers | {"content-length": length or str(len(data))}
        self.send_response_only(status)
        for name in headers.keys() - {"transfer-encoding", "connection"}:
            self.send_header(name, headers[name])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if whole else data[: len(data) // 2])

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # a client that went away
        pass


@contextlib.contextmanager
def faulty(endpoint, share, **options):
    """Run a FaultyProxy; yields its URL and itself."""
    proxy = FaultyProxy(endpoint, share, **options)
    server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"proxy": proxy}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", proxy
    finally:
        server.shutdown()
        server.server_close()
