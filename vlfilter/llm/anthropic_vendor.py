"""Anthropic's API through the `anthropic` SDK."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from vlfilter.llm.openai_vendor import with_schema
from vlfilter.llm.types import Request, Usage
from vlfilter.llm.vendor import (
    CONNECT_S,
    RejectedError,
    Repair,
    Reply,
    RetryError,
    Where,
    batch_problem,
    sort_status,
    was_sent,
    whole,
)

# The only models that still take a temperature; the later ones answer 400.
_TAKES_TEMPERATURE = re.compile(r"claude-(3|(opus|sonnet|haiku)-4(-[0-6])?(-\d{8}|-latest)?$)")


class AnthropicVendor:
    """Messages. `where.url` is the base URL, without `/v1`."""

    name = "anthropic"
    batch_limit = 20_000  # the vendor's own limits: 100,000 requests, 256 MB
    batch_bytes = 150_000_000

    def __init__(self, where: Where, timeout_s: float):
        import anthropic

        self._sdk = anthropic
        self._where = where
        self._unsupported: set[str] = set()
        timeout = anthropic.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
        # a redirect would take the question, and Anthropic's header with the key, wherever the server says
        connections = anthropic.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False)
        self._client = anthropic.AsyncAnthropic(
            api_key=where.key, base_url=where.url, timeout=timeout, max_retries=0, http_client=connections,
            open_telemetry=False,
        )  # fmt: skip

    def payload(self, request: Request, repair: Repair | None = None) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {
                "type": "image",
                "source": {
                    "type": "base64",
                    "media_type": image.media_type,
                    "data": base64.b64encode(image.data).decode("ascii"),
                },
            }
            for image in request.images
        ]
        in_words = request.schema is not None and "output_config" in self._unsupported
        content.append({"type": "text", "text": with_schema(request) if in_words else request.prompt})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if repair is not None:
            messages.append({"role": "assistant", "content": repair.said})
            messages.append({"role": "user", "content": repair.prompt})
        body: dict[str, Any] = {"model": self._where.model, "messages": messages, "max_tokens": request.max_tokens}
        if request.system:
            body["system"] = request.system
        takes = "temperature" not in self._unsupported and _TAKES_TEMPERATURE.match(self._where.model)
        if request.temperature is not None and takes:  # not together with top_p, which the API advises against
            body["temperature"] = request.temperature
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if request.schema is not None and not in_words:
            try:
                schema = self._sdk.transform_schema(dict(request.schema))
            except ValueError:  # more than the vendor's structured output can say
                body["messages"][0]["content"][-1]["text"] = with_schema(request)
            else:
                body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return body

    async def ask(self, request: Request, repair: Repair | None = None) -> Reply:
        while True:
            problem: Exception | None = None
            body: Any = None
            try:
                arguments = self.payload(request, repair)
                extra = {"temperature": arguments.pop("temperature")} if "temperature" in arguments else None
                message = await self._client.messages.create(**arguments, extra_body=extra)
                body = message.model_dump() if hasattr(message, "model_dump") else None
            except Exception as error:
                problem = self._sorted(error, adapt=True)
            if isinstance(problem, _AdaptError):
                continue
            if problem is not None:  # raised here, so that it holds no request and no header
                raise problem
            return read_reply(body)

    def _sorted(self, error: Exception, adapt: bool = False) -> Exception:
        sdk, where = self._sdk, self._where
        if isinstance(error, sdk.APIStatusError):
            message = error.api_message or error.message
            if adapt and error.status_code == 400 and self._adapts(message):
                return _AdaptError()
            return sort_status(error.status_code, message, str(error.type), error.response.headers, where)
        if isinstance(error, sdk.APITimeoutError):
            return RetryError("no answer in time", maybe_paid=was_sent(error))
        if isinstance(error, sdk.APIConnectionError):
            why = where.clean(error.__cause__ or error)
            return RetryError(f"connection to {where.url} failed: {why}", maybe_paid=was_sent(error))
        if isinstance(error, UnicodeError):
            return RejectedError(f"the request cannot be sent: {where.clean(error)}")
        if isinstance(error, ValueError | sdk.APIError):  # half a body, or one that is no JSON
            return RetryError(f"unreadable answer: {where.clean(error)}", maybe_paid=True)
        return error

    def _adapts(self, message: str) -> bool:
        """Whether the server complains of a parameter that can be left out, the first time."""
        for name, complaint in (("temperature", "temperature"), ("output_config", "output_config|structured output")):
            if name not in self._unsupported and re.search(complaint, message, re.IGNORECASE):
                self._unsupported.add(name)
                return True
        return False

    async def submit(self, lines: Sequence[tuple[str, dict[str, Any]]], tag: str) -> str:  # noqa: ARG002
        problem: Exception
        try:
            requests: Any = [{"custom_id": key, "params": body} for key, body in lines]
            batch = await self._client.messages.batches.create(requests=requests)
            return batch.id
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, None)
        raise problem

    async def find(self, tag: str, count: int, since: float, known: Collection[str]) -> str | None:  # noqa: ARG002
        """The API keeps no tag: the one batch of that size that was created since then; its results tell for sure."""
        problem: Exception
        try:
            async for batch in self._client.messages.batches.list(limit=100):
                if batch.created_at.timestamp() < since - 60:
                    return None
                counts = batch.request_counts
                total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                if total == count and batch.id not in known:
                    return batch.id
            return None
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, None)
        raise problem

    async def ended(self, job: str) -> bool:
        problem: Exception
        try:
            batch = await self._client.messages.batches.retrieve(job)
            return batch.processing_status == "ended"
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, job)
        raise problem

    async def results(self, job: str) -> AsyncIterator[tuple[str, Reply | RejectedError]]:
        problem: Exception | None = None
        found: list[tuple[str, Any]] = []
        try:
            async for line in await self._client.messages.batches.results(job):
                found.append((str(line.custom_id), line.result.model_dump()))
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, job)
        if problem is not None:
            raise problem
        for key, result in found:
            yield key, self._result(result)

    def _result(self, result: dict[str, Any]) -> Reply | RejectedError:
        if result.get("type") == "succeeded":
            try:
                return read_reply(result.get("message"))
            except RetryError as error:
                return RejectedError(error.reason)
        if result.get("type") == "errored":
            wrapped = result.get("error") or {}
            inner = wrapped.get("error") or wrapped
            return RejectedError(f"in the batch: {self._where.clean(inner.get('message'))}")
        return RejectedError(f"in the batch: {result.get('type')}")

    async def close(self) -> None:
        await self._client.close()


class _AdaptError(Exception):
    """Ask again at once, in the server's dialect."""


def read_reply(body: Any) -> Reply:
    """A message as JSON → Reply. Raises `RetryError` where it is none."""
    try:
        blocks = body["content"]
        text = "".join(block.get("text") or "" for block in blocks if block.get("type") == "text")
        stop = body.get("stop_reason")
        details = body.get("stop_details") or {}
        usage = body.get("usage")
    except (KeyError, TypeError, AttributeError):
        raise RetryError("unreadable answer: no message", maybe_paid=True) from None
    refusal = None
    if stop == "refusal":
        refusal = str(details.get("explanation") or details.get("category") or "refusal")
    return Reply(text, refusal, stop == "max_tokens", _usage(usage), str(body.get("model") or ""))


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    cached, written = whole(usage.get("cache_read_input_tokens")), whole(usage.get("cache_creation_input_tokens"))
    total = whole(usage.get("input_tokens")) + cached + written
    return Usage(total, whole(usage.get("output_tokens")), cached, written)
