"""What every vendor's module offers, and how their errors are sorted: worth a retry, one row's, or everybody's."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Request, Usage

LONGEST_MESSAGE = 300
CONNECT_S = 10.0
_NO_MONEY = re.compile(r"insufficient_quota|credit balance|billing|exceeded your current quota", re.IGNORECASE)
_MODEL_GONE = re.compile(r"model_not_found|model .{0,80}does not exist", re.IGNORECASE)
_FILTERED = re.compile(r"content_filter|content_policy_violation|usage policy", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """A vendor's answer in one form. `cut`: it reached `max_tokens`. `usage` is None where the server tells none."""

    text: str
    refusal: str | None
    cut: bool
    usage: Usage | None
    model: str


@dataclass(frozen=True, slots=True)
class Repair:
    """A second turn: what the model said, and what is wrong with it."""

    said: str
    wrong: str

    @property
    def prompt(self) -> str:
        return (
            f"This is not what was asked for: {self.wrong}\n"
            "Answer again: only the JSON, valid under the schema, without any other text."
        )


class RetryError(Exception):
    """Worth another try, not before `after` seconds. `maybe_paid`: the vendor may have answered and may charge."""

    def __init__(self, reason: str, after: float | None = None, maybe_paid: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.maybe_paid = maybe_paid


class RejectedError(Exception):
    """This request, as it is, gets no answer."""

    def __init__(self, reason: str, refused: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


class Vendor(Protocol):
    """One of the two APIs, spoken through its own SDK. Used from one event loop only."""

    name: str
    batch_limit: int  # requests of one batch
    batch_bytes: int

    async def ask(self, request: Request, repair: Repair | None = None) -> Reply:
        """One attempt. Raises `RetryError`, `RejectedError`, or `VlfilterError` where no request would get further."""
        ...

    def payload(self, request: Request, repair: Repair | None = None) -> dict[str, Any]: ...

    async def submit(self, lines: Sequence[tuple[str, dict[str, Any]]], tag: str) -> str:
        """Start a batch of (key, payload) and return its id; errors as `ask`."""
        ...

    async def find(self, tag: str, count: int, since: float, known: Collection[str]) -> str | None:
        """The id of a batch with this tag, or of this size, begun after `since` (Unix) and not known as another's."""
        ...

    async def ended(self, job: str) -> bool:
        """Whether a batch will bring no more results. Raises `RejectedError` where it ended without any."""
        ...

    def results(self, job: str) -> AsyncIterator[tuple[str, Reply | RejectedError]]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Where:
    """Whom a message is about, and the key that must not be in it."""

    vendor: str
    model: str
    url: str
    key: str = field(repr=False)
    variable: str

    def clean(self, text: object) -> str:
        """A vendor's words on one line, cut, and without the key."""
        hidden = str(text).replace(self.key, "***") if len(self.key) > len("none") else str(text)
        words = " ".join(hidden.split())
        return words if len(words) <= LONGEST_MESSAGE else words[:LONGEST_MESSAGE] + " …"


def sort_status(status: int, message: str, code: str, headers: Mapping[str, str], where: Where) -> Exception:
    """An HTTP error status → the exception that says what to do about it. Never holds the key, nor the response."""
    said = where.clean(message)
    about = f"{code} {message}"
    if 300 <= status < 400:
        return VlfilterError(f"{where.url} redirects ({status}), which is not followed: give its final address.")
    if status == 401:  # the vendor's own words hold pieces of the key
        return VlfilterError(
            f"{where.url} does not accept the key (401). Set {where.variable}; a key is only sent over https or to "
            "this machine."
        )
    if status == 403:
        return VlfilterError(f"{where.url} does not let this key use {where.model} (403): {said}")
    if status == 404 or (status == 400 and _MODEL_GONE.search(about)):
        return VlfilterError(f"{where.url} does not know the model {where.model!r} ({status}): {said}")
    if status == 402 or (status in (400, 403, 429) and _NO_MONEY.search(about)):
        return VlfilterError(f"{where.url}: the account has no money or quota left ({status}): {said}")
    if status in (408, 409, 429) or status >= 500:
        return RetryError(f"HTTP {status}: {said}", retry_after(headers))
    return RejectedError(f"rejected, HTTP {status}: {said}", refused=bool(_FILTERED.search(about)))


def batch_problem(problem: Exception, error: Exception, where: Where, job: str | None) -> Exception:
    """The same for the batch endpoint, where 404 means another thing."""
    if getattr(error, "status_code", None) != 404:
        return problem
    if job is not None:
        return RejectedError(f"{where.url} does not know the batch {job} (any more)")
    return VlfilterError(f"{where.url} has no batch endpoint: ask without batch.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after-ms` or `Retry-After` as a number or a date (RFC 9110, 10.2.3)."""
    milliseconds = headers.get("retry-after-ms")
    value = headers.get("retry-after")
    try:
        if milliseconds:
            return max(float(milliseconds) / 1000, 0.0)
        return max(float(value), 0.0) if value else None
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value or "").timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def was_sent(error: BaseException) -> bool:
    """Whether the request of a connection error may have reached the server."""
    cause = type(error.__cause__).__name__ if error.__cause__ is not None else ""
    return cause not in ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError")


def whole(value: Any) -> int:
    """A count of tokens; some servers leave it out."""
    return value if isinstance(value, int) and value > 0 else 0
