"""As much of S3 as listing a large bucket takes, from memory: list (1,000 keys a page), HEAD, GET, PUT.

Takes the number of shards; the bucket `bench` holds `data/00000000.tar` … and `scores/injection/00000000.parquet` …,
the tables without content: they can be listed, not read. Prints its URL.
"""

from __future__ import annotations

import bisect
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET, PAGE, WHEN = "bench", 1000, "2026-01-01T00:00:00.000Z"
SIZE, ETAG = 4096, '"00000000000000000000000000000000"'


def make_handler(shards: int) -> type[BaseHTTPRequestHandler]:
    keys = [f"data/{i:08d}.tar" for i in range(shards)]
    keys += [f"scores/injection/{i:08d}.parquet" for i in range(shards)]
    written: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if "list-type" in query:
                self.answer(200, listing(query), "application/xml")
            else:
                self.stored()

        def do_HEAD(self) -> None:
            self.stored()

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = self.key()
            written[key] = data
            if key not in keys:
                bisect.insort(keys, key)
            self.answer(200, b"")

        def stored(self) -> None:
            if (data := written.get(self.key())) is None:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
                return
            self.answer(200, data)

        def key(self) -> str:
            return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")

        def answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
            self.send_response(status)
            headers = {"Content-Length": str(len(body)), "Content-Type": kind, "ETag": ETAG}
            for name, value in (headers | {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def listing(query: dict[str, str]) -> bytes:
        prefix = query.get("prefix", "")
        start = bisect.bisect_left(keys, query.get("continuation-token", prefix))
        most = min(int(query.get("max-keys", PAGE)), PAGE)
        page = [key for key in keys[start : start + most] if key.startswith(prefix)]
        after = keys[start + most] if len(page) == most and start + most < len(keys) else ""
        more = after.startswith(prefix) and bool(after)
        parts = [f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(page)}</KeyCount>"]
        parts.append(f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>")
        if more:
            parts.append(f"<NextContinuationToken>{after}</NextContinuationToken>")
        parts += [
            f"<Contents><Key>{key}</Key><LastModified>{WHEN}</LastModified><ETag>{escape(ETAG)}</ETag>"
            f"<Size>{len(written.get(key, b'')) or SIZE}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        ]
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return f'<ListBucketResult xmlns="{space}">{"".join(parts)}</ListBucketResult>'.encode()

    return Handler


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(int(sys.argv[1])))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
