"""OpenAI's API, and every server that speaks it (vLLM, Azure), through the `openai` SDK."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

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

# These think before they answer and take no temperature but their own.
_REASONING = re.compile(r"(o\d|gpt-[5-9])(?!.*chat)")
_OWN_HOSTS = (".openai.com", ".azure.com", "//api.openai.com")


class OpenAiVendor:
    """Chat completions. `where.url` is the base URL, `/v1` included."""

    name = "openai"
    batch_limit = 20_000  # the vendor's own limits: 50,000 requests, 200 MB
    batch_bytes = 150_000_000

    def __init__(self, where: Where, timeout_s: float):
        import openai

        self._sdk = openai
        self._where = where
        self._unsupported: set[str] = set()  # what this server has said that it does not take
        timeout = openai.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
        # a redirect would take the question, and Anthropic's header with the key, wherever the server says
        connections = openai.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False)
        self._client = openai.AsyncOpenAI(
            api_key=where.key, base_url=where.url, timeout=timeout, max_retries=0, http_client=connections,
            _enforce_credentials=True,
        )  # fmt: skip

    def payload(self, request: Request, repair: Repair | None = None) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": f"data:{image.media_type};base64,{_base64(image.data)}"}}
            for image in request.images
        ]
        in_words = request.schema is not None and "response_format" in self._unsupported
        content.append({"type": "text", "text": with_schema(request) if in_words else request.prompt})
        messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": content if request.images else content[0]["text"]})
        if repair is not None:
            messages.append({"role": "assistant", "content": repair.said})
            messages.append({"role": "user", "content": repair.prompt})
        body: dict[str, Any] = {"model": self._where.model, "messages": messages}
        body[self._limit_name()] = request.max_tokens
        if not _REASONING.match(self._where.model):
            sampling: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p}
            sampling |= {"stop": list(request.stop) or None} | dict(request.extra)
            told = {name: value for name, value in sampling.items() if value is not None}
            body |= {name: value for name, value in told.items() if name not in self._unsupported}
        if request.seed is not None and "seed" not in self._unsupported:
            body["seed"] = request.seed
        if request.schema is not None and not in_words:
            schema = {"name": "answer", "schema": dict(request.schema), "strict": is_strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _limit_name(self) -> str:
        """The vendor's own API has renamed it; other servers know the old name."""
        own = any(host in self._where.url for host in _OWN_HOSTS)
        name = "max_completion_tokens" if own else "max_tokens"
        other = "max_tokens" if own else "max_completion_tokens"
        return other if name in self._unsupported else name

    async def ask(self, request: Request, repair: Repair | None = None) -> Reply:
        while True:
            problem: Exception | None = None
            body: Any = None
            try:
                completion = await self._client.chat.completions.create(**self.payload(request, repair))
                body = completion.model_dump() if hasattr(completion, "model_dump") else None
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
            if adapt and error.status_code in (400, 422) and self._adapts(error):
                return _AdaptError()
            said = error.body.get("message") if isinstance(error.body, dict) else None
            return sort_status(
                error.status_code, str(said or error.message), str(error.code), error.response.headers, where
            )
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

    def _adapts(self, error: Any) -> bool:
        """Whether the server complains of a parameter that can be left out or named otherwise, the first time."""
        about = f"{error.param} {error.message}"
        limits = ("max_completion_tokens", "max_tokens")
        names = ("temperature", *limits, "response_format", "seed", "top_p", "logit_bias", "stop")
        name = next((name for name in names if re.search(rf"\b{name}\b", about)), None)
        if name is None or name in self._unsupported:
            return False
        if "max" in name and self._limit_name() != name:
            return False
        if name == "temperature" or re.search(r"unsupported|not support|unrecognized|unknown|extra", about, re.I):
            self._unsupported.add(name)
            return True
        return False

    async def submit(self, lines: Sequence[tuple[str, dict[str, Any]]], tag: str) -> str:
        url = "/v1/chat/completions"
        text = "".join(
            json.dumps({"custom_id": key, "method": "POST", "url": url, "body": body}) + "\n" for key, body in lines
        )
        problem: Exception
        try:
            file = await self._client.files.create(file=("requests.jsonl", text.encode()), purpose="batch")
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"vlfilter": tag},
            )
            return batch.id
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, None)
        raise problem

    async def find(self, tag: str, count: int, since: float, known: Collection[str]) -> str | None:  # noqa: ARG002
        problem: Exception
        try:
            async for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get("vlfilter") == tag:
                    return batch.id
                if batch.created_at < since - 3600:
                    break
            return None
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, None)
        raise problem

    async def ended(self, job: str) -> bool:
        problem: Exception
        try:
            batch = await self._client.batches.retrieve(job)
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, job)
        else:
            if batch.status != "failed":
                return batch.status in ("completed", "expired", "cancelled")
            said = "; ".join(str(e.message) for e in ((batch.errors and batch.errors.data) or [])[:3])
            problem = RejectedError(f"the batch {job} failed: {self._where.clean(said)}")
        raise problem

    async def results(self, job: str) -> AsyncIterator[tuple[str, Reply | RejectedError]]:
        problem: Exception | None = None
        texts: list[str] = []
        try:
            batch = await self._client.batches.retrieve(job)
            for file in filter(None, (batch.output_file_id, batch.error_file_id)):
                texts.append((await self._client.files.content(file)).text)
        except Exception as error:
            problem = batch_problem(self._sorted(error), error, self._where, job)
        if problem is not None:
            raise problem
        for line in "\n".join(texts).splitlines():
            if line.strip():
                yield self._line(line)

    def _line(self, line: str) -> tuple[str, Reply | RejectedError]:
        try:
            entry = json.loads(line)
            key = str(entry["custom_id"])
        except (ValueError, KeyError, TypeError):
            return "", RejectedError("an unreadable line of a batch's results")
        response = entry.get("response") or {}
        body = response.get("body") or {}
        if response.get("status_code") == 200:
            try:
                return key, read_reply(body)
            except RetryError as error:
                return key, RejectedError(error.reason)
        details = entry.get("error") or (body.get("error") if isinstance(body, dict) else None) or {}
        said, code = (str(details.get(name)) for name in ("message", "code"))
        sorted_error = sort_status(response.get("status_code") or 400, said, code, {}, self._where)
        refused = isinstance(sorted_error, RejectedError) and sorted_error.refused
        return key, RejectedError(f"in the batch: {self._where.clean(said)}", refused)

    async def close(self) -> None:
        await self._client.close()


class _AdaptError(Exception):
    """Ask again at once, in the server's dialect."""


def read_reply(body: Any) -> Reply:
    """A chat completion as JSON → Reply. Raises `RetryError` where it is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        refusal = message.get("refusal") or None
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RetryError("unreadable answer: no chat completion", maybe_paid=True) from None
    finish = choice.get("finish_reason")
    if refusal is None and finish == "content_filter":
        refusal = "content_filter"
    return Reply(str(text), refusal, finish == "length", _usage(body.get("usage")), str(body.get("model") or ""))


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        whole(usage.get("prompt_tokens")),
        whole(usage.get("completion_tokens")),
        whole(details.get("cached_tokens")),
        whole(details.get("cache_write_tokens")),
    )


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether a schema keeps the rules of strict mode: every object closed, all its properties required."""
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, Mapping):
            if part.get("type") == "object" or "properties" in part:
                names = set(part.get("properties", {}))
                if part.get("additionalProperties") is not False or set(part.get("required", ())) != names:
                    return False
            parts += part.values()
        elif isinstance(part, list | tuple):
            parts += part
    return True


def with_schema(request: Request) -> str:
    """The prompt for a server that knows no structured output."""
    return f"{request.prompt}\n\nAnswer with JSON only, valid under this JSON schema:\n{json.dumps(request.schema)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
