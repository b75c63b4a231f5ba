"""Fetching one address: what is let in, how far, and that nothing of one's own network is ever visited."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.helpers import png
from vlfilter.data.fetch import Fetcher, FetchLimits, fetch, is_public, resolve
from vlfilter.errors import VlfilterError

IMAGE = png(3)
QUICK = FetchLimits(bytes_=10_000, connect_seconds=2, read_seconds=0.3, total_seconds=5)


@dataclass
class Web:
    """A server on 127.0.0.1, the requests it saw, and an event that ends what it keeps waiting."""

    server: ThreadingHTTPServer
    seen: list[tuple[str, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            web.seen.append((self.path, self.headers["Host"]))
            name, _, rest = self.path.lstrip("/").partition("/")
            if name == "image.png":
                self.reply(IMAGE)
            elif name == "to":
                self.reply(b"", 302, Location=rest)
            elif name == "again":
                count = int(rest)
                self.reply(b"", 301, Location=f"/again/{count - 1}" if count > 1 else "/image.png")
            elif name == "promises":
                self.reply(b"x", Content_Length="10001")
            elif name == "chunks":  # no length beforehand
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for _ in range(20):
                    self.wfile.write(b"3E8\r\n" + b"x" * 1000 + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            elif name == "half":
                self.reply(IMAGE[:100], Content_Length=str(len(IMAGE)))
                self.close_connection = True
            elif name == "silent":
                web.done.wait(20)
                self.close_connection = True
            elif name == "drip":
                self.send_response(200)
                self.send_header("Content-Length", "300")
                self.end_headers()
                for _ in range(300):
                    web.done.wait(0.02)
                    try:
                        self.wfile.write(b"x")
                    except OSError:
                        return
                web.seen.append(("all sent", ""))
            else:
                self.reply(b"nothing here", 404)

    return Handler


@pytest.fixture
def web() -> Iterator[Web]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    made = Web(server)
    server.RequestHandlerClass = handler(made)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.done.set()
    server.shutdown()
    server.server_close()


def lenient(limits: FetchLimits = QUICK, resolve: Callable[[str, int], Sequence[str]] = resolve) -> Fetcher:
    """A fetcher that may visit this machine, for tests only: `fetch` has no way to say so."""
    return Fetcher(limits, resolve, allowed=lambda address: address == "127.0.0.1")


def refused(web: Web, url: str, message: str, fetcher: Fetcher | None = None) -> None:
    with pytest.raises(VlfilterError, match=message):
        (fetcher or Fetcher(QUICK)).get(url)
    assert web.seen == []


def test_an_image(web: Web) -> None:
    assert lenient().get(web.url("/image.png")) == IMAGE
    assert web.seen == [("/image.png", f"127.0.0.1:{web.port}")]


def test_a_name_is_resolved_once_and_the_checked_address_is_visited(web: Web) -> None:
    """A second look-up would give an address inside: there is none."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    def rebinding(host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("pictures.example", web.port)
        return answers.pop(0)

    assert lenient(resolve=rebinding).get(web.url("/image.png", "pictures.example")) == IMAGE
    assert web.seen == [("/image.png", f"pictures.example:{web.port}")]
    assert answers == [["10.0.0.1"]]


def test_paths_and_queries_are_quoted(web: Web) -> None:
    assert lenient().get(web.url("/image.png/ä b?q=ü%20&x=[1]#part")) == IMAGE
    assert web.seen[0][0] == "/image.png/%C3%A4%20b?q=%C3%BC%20&x=[1]"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0.0.0.0", "0", "[::1]",
     "[::ffff:127.0.0.1]", "[::]"],
)  # fmt: skip
def test_this_machine_is_never_visited(web: Web, host: str) -> None:
    refused(web, web.url("/image.png", host), "no public address|cannot be resolved")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
     "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "168.63.129.16", "192.0.2.1", "::1",
     "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
     "2001:0:1::", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_nobodys_on_the_internet(web: Web, address: str) -> None:
    assert not is_public(address)
    names = Fetcher(QUICK, resolve=lambda _host, _port: [address])
    refused(
        web, web.url("/image.png", "localtest.me"), r"localtest\.me is .* no public address: it is not visited", names
    )
    mixed = Fetcher(QUICK, resolve=lambda _host, _port: ["93.184.215.14", address])
    refused(web, web.url("/image.png", "mixed.example"), "no public address", mixed)


@pytest.mark.parametrize(
    "address",
    ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808", "::ffff:8.8.8.8"],
)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "target", ["http://localhost:1/", "http://[::1]/", "https://169.254.169.254/latest/meta-data", "//localhost/x"]
)
def test_a_redirect_to_this_network_is_refused(web: Web, target: str) -> None:
    with pytest.raises(VlfilterError, match="no public address: it is not visited"):
        # the first hop is allowed as a test's own server, whatever follows is checked by the real rule
        hops = iter([lambda _: True])
        Fetcher(QUICK, allowed=lambda address: next(hops, is_public)(address)).get(web.url(f"/to/{target}"))
    assert len(web.seen) == 1


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:image/png;base64,AA", "gopher://x"]
)
def test_a_redirect_to_another_scheme_is_refused(web: Web, target: str) -> None:
    with pytest.raises(VlfilterError, match="only http and https"):
        lenient().get(web.url(f"/to/{target}"))


def test_three_redirects_and_no_more(web: Web) -> None:
    assert lenient().get(web.url("/again/3")) == IMAGE
    with pytest.raises(VlfilterError, match="again/4 redirects more than 3 times"):
        lenient().get(web.url("/again/4"))


@pytest.mark.parametrize("path", ["/promises", "/chunks"])
def test_too_large(web: Web, path: str) -> None:
    with pytest.raises(VlfilterError, match="larger than 10000 bytes"):
        lenient().get(web.url(path))


def test_a_server_that_never_answers(web: Web) -> None:
    with pytest.raises(VlfilterError, match=r"the server did not deliver \(timed out\)"):
        lenient().get(web.url("/silent"))


def test_a_server_that_answers_a_byte_at_a_time(web: Web) -> None:
    """Every byte comes in time; the whole never would."""
    limits = FetchLimits(read_seconds=5, total_seconds=0.5)
    with pytest.raises(VlfilterError, match=r"not complete after 0\.5 seconds"):
        lenient(limits).get(web.url("/drip"))
    assert [path for path, _ in web.seen] == ["/drip"], "it was not waited for"


def test_a_resolver_that_never_answers(web: Web) -> None:
    def hanging(_host: str, _port: int) -> list[str]:
        web.done.wait(20)
        return []

    with pytest.raises(VlfilterError, match=r"'slow\.example' cannot be resolved \(timed out\)"):
        lenient(FetchLimits(total_seconds=0.2), hanging).get("http://slow.example/x")


def test_half_an_answer(web: Web) -> None:
    with pytest.raises(VlfilterError, match="did not deliver"):
        lenient().get(web.url("/half"))


def test_404(web: Web) -> None:
    with pytest.raises(VlfilterError, match="the server answered 404 Not Found"):
        lenient().get(web.url("/missing"))


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, never listening
        with pytest.raises(VlfilterError, match="no connection"):
            lenient().get(f"http://127.0.0.1:{free.getsockname()[1]}/")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.com/x", "only http and https"),
        ("//example.com/x.png", "only http and https"),
        ("http:///x", "names no host"),
        ("http://example.com:0/x", "names no host"),
        ("http://example.com:99999/x", "is no address"),
        ("http://[::1/x", "is no address"),
        (f"http://{'a' * 64}.example/x", "is no address"),
        ("http://user:secret@example.com/x", "an address for example.com with a name or a password"),
    ],
)
def test_what_is_no_address(url: str, message: str) -> None:
    with pytest.raises(VlfilterError, match=message) as caught:
        fetch(url)
    assert "secret" not in str(caught.value)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(VlfilterError, match=r"cannot be resolved|no connection"):
        fetch("http://nothing.invalid/x.png")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_speaks_to_the_name_at_the_checked_address(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path, "pictures.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    fetcher = lenient(resolve=lambda _host, _port: ["127.0.0.1"])
    url = f"https://pictures.example:{web.port}/image.png"
    with pytest.raises(VlfilterError, match="certificate verify failed"):
        fetcher.get(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert fetcher.get(url) == IMAGE
    assert set(asked) == {"pictures.example"}
    with pytest.raises(VlfilterError, match=r"certificate is not valid for 'other.example'"):
        fetcher.get(f"https://other.example:{web.port}/image.png")
    assert web.seen == [("/image.png", f"pictures.example:{web.port}")]
