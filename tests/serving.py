"""A web server for tests that fetch."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`, path to bytes: in ranges if it may, cut off where told, and keeping a record."""

    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        content = server.files[self.path]
        body, size = content[start:], len(content)
        status = server.status or (416 if start and not body else 206 if start else 200)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for header in server.headers.items():
            self.send_header(*header)
        if not server.endless:
            self.send_header("Content-Length", str(len(body)))
        sent = body[: server.cut]
        server.requests.append((asked, status, len(sent)))  # before the client can know that all is there
        self.end_headers()
        self.wfile.write(sent)
        with contextlib.suppress(ConnectionError):  # when the client has had enough
            while server.endless:
                self.wfile.write(bytes(1 << 16))

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    """A server on this machine; see `Handler`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.ranges, server.status, server.cut = {}, True, None, None
        server.headers, server.requests, server.endless = {}, [], False
        server.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
