"""Requests to a running vLLM server (its OpenAI API): many in flight, tried again while the server may come back."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from vlfilter.errors import ServerError, VlfilterError

KEY = "VLLM_API_KEY"  # the variable that the server itself reads its key from
TRIES = 5
PAUSE = 1.0  # seconds before the second try, doubled each time
AGAIN = (408, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds, whatever the server's Retry-After says
TIMEOUT = httpx.Timeout(600, connect=10)  # a busy server queues
STARTING = "See docs/vllm.md for how to start one."


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model's name on the server and the longest sequence it takes there (0: not told)."""

    name: str
    max_length: int


class RefusedError(Exception):
    """The server answers, but not this request: the request's fault."""


class VllmClient:
    """One server, where at most `in_flight` requests wait at a time."""

    def __init__(self, base_url: str, in_flight: int):
        self.base_url = check_url(base_url)
        self.in_flight = in_flight
        self.lost = False  # it stopped answering; the next batch asks once whether it is back
        key = os.environ.get(KEY)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._tls: Any = httpx.create_ssl_context() if self.base_url.startswith("https") else False

    def models(self) -> dict[str, int]:
        """What is served, with the longest sequence of each (0: not told).

        Raises `VlfilterError` for what is no such server (`ServerError` when nothing answers).
        """
        try:
            response = httpx.get(f"{self.base_url}/models", headers=self._headers, timeout=10, verify=self._tls)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServerError(f"no server answers at {self.base_url} ({_told(error)}). {STARTING}") from None
        self._refused_key(response.status_code)
        try:
            if not response.is_success:
                raise ValueError
            return {str(model["id"]): int(model.get("max_model_len") or 0) for model in response.json()["data"]}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise VlfilterError(
                f"{self.base_url} is no OpenAI API (GET /models gave HTTP {response.status_code}): "
                "--base-url ends with /v1, as in http://127.0.0.1:8000/v1."
            ) from None

    def served(self, names: Sequence[str]) -> ServedModel:
        """The first of `names` that the server has. Raises `VlfilterError` as `models` does, and where it has none."""
        models = self.models()
        for name in names:
            if name in models:
                return ServedModel(name, models[name])
        raise VlfilterError(
            f"the server at {self.base_url} does not serve {names[0]}; it has {', '.join(models) or 'nothing'}. Serve "
            "the same checkpoint, or name it with the option served_model."
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Connections for a batch of requests. Raises `ServerError` while a server that was lost is not back."""
        limits = httpx.Limits(max_connections=self.in_flight, max_keepalive_connections=self.in_flight)
        async with httpx.AsyncClient(
            headers=self._headers, timeout=TIMEOUT, limits=limits, verify=self._tls
        ) as connections:
            session = Session(self, connections)
            if self.lost and not await session.answers():
                raise ServerError(f"the server at {self.base_url} does not answer any more.")
            self.lost = False
            yield session

    def _refused_key(self, status: int) -> None:
        if status in (401, 403):
            have = "the key in" if self._headers else "a request without a key: set"
            raise VlfilterError(f"the server at {self.base_url} refuses {have} {KEY} (HTTP {status}).")


class Session:
    """Open connections to a server."""

    def __init__(self, client: VllmClient, connections: httpx.AsyncClient):
        self._client = client
        self._connections = connections
        self._slots = asyncio.Semaphore(client.in_flight)

    async def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a chat request.

        Raises `RefusedError` for a request that the server will not answer, `ServerError` when it does not answer at
        all after several tries, and `VlfilterError` for a wrong key or a model that is gone.
        """
        url = f"{self._client.base_url}/chat/completions"
        content = json.dumps(body).encode()
        problem, alive, wait = "", False, 0.0
        for attempt in range(TRIES):
            await asyncio.sleep(wait)
            wait = PAUSE * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - only jitter
            try:
                async with self._slots:
                    response = await self._connections.post(
                        url, content=content, headers={"Content-Type": "application/json"}
                    )
                    answer = response.json() if response.is_success else None
            except (httpx.TransportError, ValueError) as error:
                alive, problem = False, _told(error)
                continue
            if isinstance(answer, dict):
                return answer
            problem = f"HTTP {response.status_code}: {_message(response)}"
            if response.status_code not in AGAIN:
                self._client._refused_key(response.status_code)
                if response.status_code == 404:
                    raise VlfilterError(f"the server at {self._client.base_url} has it no more: {problem}")
                raise RefusedError(problem)
            alive = response.status_code == 500  # it may be this request that it stumbles over
            wait = min(max(wait, _retry_after(response)), LONGEST_WAIT)
        if alive and await self.answers():
            raise RefusedError(problem)
        self._client.lost = True
        raise ServerError(
            f"the server at {self._client.base_url} stopped answering ({problem}; tried {TRIES} times). "
            "Finished shards are kept: start it again and repeat the command."
        )

    async def answers(self) -> bool:
        """Whether the server is there at all."""
        try:
            return (await self._connections.get(f"{self._client.base_url}/models", timeout=10)).is_success
        except httpx.TransportError:
            return False


def check_url(base_url: str) -> str:
    """The URL without a trailing slash. Raises `VlfilterError` unless it is one of http or https, without a secret."""
    try:
        parts = urlsplit(base_url.strip())
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise VlfilterError(f"--base-url {base_url!r}: give the server's URL, as in http://127.0.0.1:8000/v1.")
    if parts.username or parts.password:
        raise VlfilterError(f"--base-url must hold no password: set {KEY} in the environment.")
    return base_url.strip().rstrip("/")


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _message(response: httpx.Response) -> str:
    try:
        text = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:300]


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", 0))
    except ValueError:  # a date
        return 0.0
