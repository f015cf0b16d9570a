"""An S3 server with the gaps of other services' S3 interfaces, Google Cloud Storage's among them."""

import contextlib
import http.client

import json_server

CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-algorithm", "x-amz-trailer")
PASSED_ON = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Handler(json_server.Handler):
    """Passes requests on to a complete server, but refuses checksums in headers and the deletion of several objects."""

    protocol_version = "HTTP/1.1"

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sums = [name for name in self.headers if name.lower().startswith(CHECKSUMS)]
        if sums or (self.command == "POST" and self.path.endswith("?delete")):
            self.server.refused.append(sums[0] if sums else "DeleteObjects")
            code, status = ("InvalidArgument", 400) if sums else ("NotImplemented", 501)
            self.answer(f"<Error><Code>{code}</Code><Message>{self.server.refused[-1]}</Message></Error>", status)
        else:
            self.pass_on(body)

    def pass_on(self, body):
        connection = http.client.HTTPConnection(self.server.behind)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # the Host too: it is signed
            connection.putheader(name, value)
        connection.endheaders(body)
        found = connection.getresponse()
        content = found.read()
        self.send_response(found.status)
        for name, value in found.getheaders():
            if name.lower() not in PASSED_ON:
                self.send_header(name, value)
        length = found.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve


@contextlib.contextmanager
def serving(endpoint):
    """Yield the address of such a server in front of `endpoint`, and what it has refused."""
    with json_server.serving(Handler, behind=endpoint.removeprefix("http://"), refused=[]) as server:
        yield json_server.url(server), server.refused
