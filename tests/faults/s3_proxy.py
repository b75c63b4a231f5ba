"""A proxy on 127.0.0.1 in front of an S3 server, that spoils answers as a test says."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = ("connection", "transfer-encoding", "keep-alive", "content-length")
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Asked:
    """A request as it came in; `number` counts all of them from 0."""

    number: int
    method: str
    path: str

    @property
    def is_object(self) -> bool:
        """About one object, and no listing."""
        return "?" not in self.path and self.path.count("/") >= 2


# None, or what goes wrong: "503" or "broken" (a reset), neither passed on, "lost" (done there, answered with 503),
# "reset" (after half of the body), "short" (half of the body, its length to match), "long-promise" (a length that is
# never reached), "slow" (in small pieces), "stale" (a listing without its last entry), "gone" (404)
Fault = Callable[[Asked], str | None]


def every_tenth(asked: Asked) -> str | None:
    """A 503 and a broken connection in turns."""
    return ("503", "broken")[asked.number // 10 % 2] if asked.number % 10 == 9 else None


@dataclass
class S3Proxy:
    """`fault` is asked about every request; `seen` keeps what was asked and what went wrong with it."""

    target: str
    fault: Fault = lambda asked: None
    seen: list[tuple[Asked, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        outer = self

        class Handler(_Handler):
            proxy = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def faults(self) -> list[str]:
        return [fault for _, fault in self.seen if fault]


class _Handler(BaseHTTPRequestHandler):
    proxy: S3Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _any(self) -> None:
        body = self._body()
        with self.proxy.lock:
            asked = Asked(len(self.proxy.seen), self.command, self.path)
            fault = self.proxy.fault(asked)
            self.proxy.seen.append((asked, fault))
        if fault == "broken":
            self._reset()
            return
        if fault in ("503", "gone"):
            status, data = (503, SLOW_DOWN) if fault == "503" else (404, b"<Error><Code>NoSuchKey</Code></Error>")
            self._send(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else data)
            return
        status, headers, data = self._forward(body)
        if fault == "lost":
            self._send(503, [("Content-Type", "application/xml")], SLOW_DOWN)
        elif fault == "stale":
            start = data.rfind(b"<Contents>")
            end = data.find(b"</Contents>", start) + len(b"</Contents>")
            self._send(status, headers, data[:start] + data[end:] if start >= 0 else data)
        elif fault == "short":
            self._send(status, headers, data[: len(data) // 2])
        elif fault in ("reset", "long-promise"):
            self._send(status, headers, data[: len(data) // 2], promised=len(data), reset=fault == "reset")
        elif fault == "slow":
            self._send(status, headers, data, pieces=7)
        else:
            self._send(status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target = urlsplit(self.proxy.target)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in (*HOP, "expect")}
        connection.request(self.command, self.path, body=body or None, headers=headers)
        response = connection.getresponse()
        data = response.read()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP]
        if self.command == "HEAD":
            kept.append(("Content-Length", response.headers["content-length"] or "0"))
        connection.close()
        return response.status, kept, data

    def _send(
        self, status: int, headers: list[tuple[str, str]], data: bytes, promised: int | None = None,
        reset: bool = False, pieces: int = 1,
    ) -> None:  # fmt: skip
        try:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data) if promised is None else promised))
            self.end_headers()
            if self.command != "HEAD":
                size = max(1, len(data) // pieces)
                for start in range(0, len(data), size):
                    self.wfile.write(data[start : start + size])
                    self.wfile.flush()
                    if pieces > 1:
                        threading.Event().wait(0.01)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        if promised is not None:
            if reset:
                self._reset()
            self.close_connection = True

    def _reset(self) -> None:
        """The other end sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
