"""A proxy in front of an S3 server that fails every tenth request: a 503 and a broken connection in turns."""

from __future__ import annotations

import http.client
import itertools
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "server", "date"}


class FaultyProxy:
    """Listens on loopback while in `with`; `url` is its address, `failed` counts the requests that it spoiled."""

    def __init__(self, target: str, every: int = 10):
        self.target, self.every = urlsplit(target).netloc, every
        self.failed = 0
        self._count = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the request's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if next(proxy._count) % proxy.every == 0:
                    proxy.failed += 1
                    self._fail(proxy.failed % 2 == 0)
                    return
                upstream = http.client.HTTPConnection(proxy.target, timeout=60)
                try:
                    upstream.request(self.command, self.path, body, dict(self.headers.items()))
                    answer = upstream.getresponse()
                    self._answer(answer.status, answer.getheaders(), answer.read())
                finally:
                    upstream.close()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do  # noqa: N815

            def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                length = {name.lower(): value for name, value in headers}.get("content-length", str(len(data)))
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _fail(self, break_off: bool) -> None:
                self.close_connection = True
                if break_off:  # a reset instead of an orderly end
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
