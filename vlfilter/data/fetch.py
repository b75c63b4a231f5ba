"""One file from an address that a person typed: only from the public internet, within limits of size and time.

Of a server's answers only its redirects lead anywhere, and each is checked like the first address. A name is resolved
once, every address it has is checked, and the connection goes to a checked address: what the name says a moment later
changes nothing. Proxies of the environment are not used; they would resolve the name themselves.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from vlfilter import __version__
from vlfilter.errors import VlfilterError

REDIRECTS = (301, 302, 303, 307, 308)
CHUNK = 65536
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # left as they are where a path is quoted
_NAT64 = ip_network("64:ff9b::/96")  # an IPv4 address in its last 32 bits
# special uses that not every release of Python knows (IANA's registries), tunnels whose other end is not told, and the
# public address at which Azure's host answers its guests
_SPECIAL = [
    ip_network(net)
    for net in (
        "192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "168.63.129.16/32",
        "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
    )
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """`bytes_` of the file; seconds to connect, between two pieces, and for everything; redirects followed."""

    bytes_: int = 20_000_000
    connect_seconds: float = 5.0
    read_seconds: float = 10.0
    total_seconds: float = 30.0
    redirects: int = 3


def is_public(address: str) -> bool:
    """Whether an IP address is somebody's on the internet: not of this machine, its networks, or any special use."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ip_address(int(ip) & 0xFFFFFFFF)))
    special = ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved
    return ip.is_global and not special and not ip.is_unspecified and not any(ip in network for network in _SPECIAL)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, as text."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def fetch(url: str, limits: FetchLimits | None = None) -> bytes:
    """The content at an http or https address. Raises `VlfilterError` saying why there is none."""
    return Fetcher(limits or FetchLimits()).get(url)


@dataclass(frozen=True)
class Fetcher:
    """`fetch` with a resolver and a rule for addresses of one's own."""

    limits: FetchLimits
    resolve: Callable[[str, int], Sequence[str]] = resolve
    allowed: Callable[[str], bool] = is_public

    def get(self, url: str) -> bytes:
        deadline = time.monotonic() + self.limits.total_seconds
        at = url
        for _ in range(self.limits.redirects + 1):
            content, following = self._visit(at, deadline)
            if following is None:
                return content
            at = urljoin(at, following)
        raise VlfilterError(f"{url} redirects more than {self.limits.redirects} times.")

    def _visit(self, url: str, deadline: float) -> tuple[bytes, str | None]:
        """The content at one address, or where it redirects to."""
        parts = _checked_url(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = self._addresses(url, str(parts.hostname), port, deadline)
        try:
            sock = self._connect(addresses, port, deadline)
        except OSError as error:
            raise VlfilterError(f"{url}: no connection ({_told(error)}).") from None
        with sock, sock.dup() as same:
            # every read has a time-out of its own, which one byte a second would never meet
            watch = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (same,))
            watch.daemon = True
            watch.start()
            try:
                found = self._exchange(url, parts, port, sock)
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() < deadline:
                    raise VlfilterError(f"{url}: the server did not deliver ({_told(error)}).") from None
                found = None
            finally:
                watch.cancel()
        if found is None or time.monotonic() >= deadline:
            raise VlfilterError(f"{url}: not complete after {self.limits.total_seconds:g} seconds.")
        return found

    def _connect(self, addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
        error = OSError("the name has no address")
        for address in addresses:
            left = min(self.limits.connect_seconds, deadline - time.monotonic())
            try:
                return socket.create_connection((address, port), timeout=max(left, 0.001))
            except OSError as failed:
                error = failed
        raise error

    def _addresses(self, url: str, host: str, port: int, deadline: float) -> list[str]:
        """The host's addresses. Raises `VlfilterError` when one of them is not allowed."""
        found: list[Sequence[str] | Exception] = []

        def look_up() -> None:
            try:
                found.append(self.resolve(host, port))
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=look_up, daemon=True)  # the system's resolver has no time-out
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
        answer = found[0] if found else TimeoutError("timed out")
        if isinstance(answer, Exception):
            raise VlfilterError(f"{url}: the name {host!r} cannot be resolved ({_told(answer)}).")
        for address in answer:
            if not self.allowed(address):
                raise VlfilterError(f"{url}: {host} is {address}, which is no public address: it is not visited.")
        return list(answer)

    def _exchange(self, url: str, parts: SplitResult, port: int, sock: socket.socket) -> tuple[bytes, str | None]:
        connection = http.client.HTTPConnection(str(parts.hostname), port)
        if parts.scheme == "https":
            connection.default_port = 443
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        sock.settimeout(self.limits.read_seconds)
        connection.sock = sock
        path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        headers = {"User-Agent": f"vlfilter/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
        with closing(connection):
            connection.request("GET", path, headers={**headers, "Connection": "close"})
            with connection.getresponse() as response:
                if response.status in REDIRECTS and response.headers.get("Location"):
                    return b"", response.headers["Location"]
                if response.status != 200:
                    raise VlfilterError(f"{url}: the server answered {response.status} {response.reason}.")
                return self._body(url, response), None

    def _body(self, url: str, response: http.client.HTTPResponse) -> bytes:
        too_large = VlfilterError(f"{url}: larger than {self.limits.bytes_} bytes.")
        if (response.length or 0) > self.limits.bytes_:
            raise too_large
        pieces, size = [], 0
        while piece := response.read1(CHUNK):
            pieces.append(piece)
            size += len(piece)
            if size > self.limits.bytes_:
                raise too_large
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        if host:
            host.encode("idna")
    except (ValueError, UnicodeError) as error:
        raise VlfilterError(f"{url!r} is no address: {error}.") from None
    if parts.scheme not in ("http", "https"):
        raise VlfilterError(f"{url}: only http and https addresses are fetched.")
    if not host or port == 0:
        raise VlfilterError(f"{url}: the address names no host.")
    if parts.username is not None or parts.password is not None:
        raise VlfilterError(f"an address for {host} with a name or a password in it is not fetched.")
    return parts


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):  # it may be closed already
        sock.shutdown(socket.SHUT_RDWR)


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
