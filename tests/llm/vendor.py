"""Both vendors' APIs on 127.0.0.1, as much of them as the judge uses, told by the test what to answer.

`vendor.script(...)` queues behaviours for the next requests of any kind of question, in order; afterwards, and without
a script, `vendor.answer(body)` makes the text. Nothing here knows the judge.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

USAGE = (100, 10)  # tokens in and out of every answer, where the script says nothing else


@dataclass(frozen=True)
class Play:
    """How one request is answered: `kind` is text, status, refusal, filtered, empty, cut, half, garbage or never."""

    kind: str = "text"
    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    usage: tuple[int, int] | None = USAGE


@dataclass
class Seen:
    """A request that came in; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: Any


class VendorServer:
    """`openai_url` and `anthropic_url` are base URLs for the SDKs."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.plays: list[Play] = []
        self.answer: Callable[[Any], str] = lambda body: f"answer to {prompt_of(body)}"
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.hold_batches = False
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.openai_url = f"{self.url}/v1"
        self.anthropic_url = self.url

    def base_url(self, vendor: str) -> str:
        return self.openai_url if vendor == "openai" else self.anthropic_url

    def script(self, *plays: Play) -> None:
        self.plays += plays

    def questions(self) -> list[Seen]:
        """The requests that were questions, not files or batches."""
        return [seen for seen in self.seen if seen.path in ("/v1/chat/completions", "/v1/messages")]

    def prompts(self) -> list[str]:
        return [prompt_of(seen.body) for seen in self.questions()]

    def finish_batches(self, last: int | None = None) -> None:
        """Answer what was handed in as batches; with `last` all but so many requests, which expire."""
        with self.lock:
            for batch in self.batches.values():
                if batch["state"] == "running":
                    _finish(self, batch, last)

    def stop(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()


def prompt_of(body: Any) -> str:
    """The text of the last user message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _finish(server: VendorServer, batch: dict[str, Any], last: int | None) -> None:
    lines = []
    answered = batch["lines"] if last is None else batch["lines"][: len(batch["lines"]) - last]
    expired = [] if last is None else batch["lines"][len(batch["lines"]) - last :]
    for key, body in reversed(answered):  # vendors keep no order
        play = server.plays.pop(0) if server.plays else Play(text=server.answer(body))
        lines.append(_batch_line(batch["vendor"], key, play))
    errors = [_batch_line(batch["vendor"], key, None) for key, _ in expired]
    if batch["vendor"] == "openai":
        server.files[f"out-{batch['id']}"] = "".join(json.dumps(line) + "\n" for line in lines)
        server.files[f"err-{batch['id']}"] = "".join(json.dumps(line) + "\n" for line in errors)
    else:
        server.files[f"out-{batch['id']}"] = "".join(json.dumps(line) + "\n" for line in lines + errors)
    batch["state"] = "done"


def _batch_line(vendor: str, key: str, play: Play | None) -> dict[str, Any]:
    if vendor == "openai":
        if play is None:
            error = {"code": "batch_expired", "message": "This request could not be executed in time."}
            return {"id": "r", "custom_id": key, "response": None, "error": error}
        body = _chat(play) if play.kind != "status" else {"error": play.error}
        return {"id": "r", "custom_id": key, "response": {"status_code": play.status, "body": body}, "error": None}
    if play is None:
        return {"custom_id": key, "result": {"type": "expired"}}
    if play.kind == "status":
        return {"custom_id": key, "result": {"type": "errored", "error": {"type": "error", "error": play.error}}}
    return {"custom_id": key, "result": {"type": "succeeded", "message": _message(play)}}


def _chat(play: Play) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": play.text, "refusal": None}
    finish = {"cut": "length", "filtered": "content_filter"}.get(play.kind, "stop")
    if play.kind == "refusal":
        message |= {"content": None, "refusal": play.text or "I cannot help with that."}
    if play.kind in ("empty", "filtered"):
        message["content"] = None
    usage = None
    if play.usage is not None:
        usage = {"prompt_tokens": play.usage[0], "completion_tokens": play.usage[1], "total_tokens": sum(play.usage)}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-2026",
        "choices": [choice],
        "usage": usage,
    }


def _message(play: Play) -> dict[str, Any]:
    content = [{"type": "text", "text": play.text}] if play.kind in ("text", "cut") else []
    stop = {"cut": "max_tokens", "refusal": "refusal", "filtered": "refusal"}.get(play.kind, "end_turn")
    details = {"type": "refusal", "category": None, "explanation": play.text or None} if stop == "refusal" else None
    used = play.usage or (0, 0)
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "judge-2026",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": details,
        "usage": {"input_tokens": used[0], "output_tokens": used[1]} if play.usage is not None else None,
    }


class _Handler(BaseHTTPRequestHandler):
    server_state: VendorServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._seen(None)
        path = self.path.split("?")[0]
        server = self.server_state
        with server.lock:
            if match := re.fullmatch(r"/v1/files/([^/]+)/content", path):
                return self._send(200, server.files[match[1]].encode(), "application/binary")
            if path in ("/v1/batches", "/v1/messages/batches"):
                shown = [self._batch(b) for b in reversed(list(server.batches.values()))]
                return self._json(200, {"data": shown, "has_more": False, "first_id": None, "last_id": None})
            if match := re.fullmatch(r"/v1/messages/batches/([^/]+)/results", path):
                return self._send(200, server.files[f"out-{match[1]}"].encode(), "application/x-jsonl")
            if match := re.fullmatch(r"/v1/(?:messages/)?batches/([^/]+)", path):
                if match[1] not in server.batches:
                    return self._json(404, {"error": {"message": "no such batch", "type": "not_found_error"}})
                return self._json(200, self._batch(server.batches[match[1]]))
        return self._json(404, {"error": {"message": f"no such path {path}"}})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        kind = self.headers.get("content-type", "")
        body = _form_file(kind, data) if kind.startswith("multipart") else json.loads(data)
        self._seen(body)
        server = self.server_state
        if self.path == "/v1/files":
            with server.lock:
                name = f"file-{len(server.files)}"
                server.files[name] = body
            return self._json(200, {"id": name, "object": "file", "bytes": len(body), "created_at": 1})
        if self.path in ("/v1/batches", "/v1/messages/batches"):
            return self._new_batch(body)
        if self.path not in ("/v1/chat/completions", "/v1/messages"):
            return self._json(404, {"error": {"message": f"no such path {self.path}"}})
        with server.lock:
            play = server.plays.pop(0) if server.plays else None
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            return self._play(play or Play(text=server.answer(body)))
        finally:
            with server.lock:
                server.under_way -= 1

    def _play(self, play: Play) -> None:
        if play.kind == "never":
            self.server_state.release.wait(60)
            self.close_connection = True
            return
        if play.delay:
            time.sleep(play.delay)
        if play.kind == "status":
            kind = "anthropic" if self.path == "/v1/messages" else "openai"
            error = {"message": "scripted", "type": "scripted", **play.error}
            body: dict[str, Any] = {"error": error} if kind == "openai" else {"type": "error", "error": error}
            self._json(play.status, body, play.headers)
            return
        if play.kind == "garbage":
            self._send(200, b"<html>upstream is tired</html>", "application/json")
            return
        data = json.dumps(_chat(play) if self.path == "/v1/chat/completions" else _message(play)).encode()
        if play.kind == "half":
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self._send(200, data, "application/json", play.headers)

    def _new_batch(self, body: Any) -> None:
        server = self.server_state
        with server.lock:
            job = f"batch-{len(server.batches)}"
            if self.path == "/v1/batches":
                lines = [json.loads(line) for line in server.files[body["input_file_id"]].splitlines()]
                pairs = [(line["custom_id"], line["body"]) for line in lines]
                batch = {"vendor": "openai", "metadata": body.get("metadata"), "file": body["input_file_id"]}
            else:
                pairs = [(entry["custom_id"], entry["params"]) for entry in body["requests"]]
                batch = {"vendor": "anthropic"}
            batch |= {"id": job, "lines": pairs, "state": "running", "created": time.time()}
            server.batches[job] = batch
            if not server.hold_batches:
                _finish(server, batch, None)
            shown = self._batch(batch)
        self._json(200, shown)

    def _batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        job, done = batch["id"], batch["state"] == "done"
        if batch["vendor"] == "openai":
            return {
                "id": job,
                "object": "batch",
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "input_file_id": batch["file"],
                "created_at": int(batch["created"]),
                "status": {"done": "completed", "failed": "failed"}.get(batch["state"], "in_progress"),
                "output_file_id": f"out-{job}" if done else None,
                "error_file_id": f"err-{job}" if done and f"err-{job}" in self.server_state.files else None,
                "metadata": batch["metadata"],
                "errors": {"data": [{"message": "the file is no good"}]} if batch["state"] == "failed" else None,
            }
        counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        counts["succeeded" if done else "processing"] = len(batch["lines"])
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch["created"]))
        return {
            "id": job,
            "type": "message_batch",
            "processing_status": "ended" if done else "in_progress",
            "request_counts": counts,
            "created_at": stamp,
            "expires_at": stamp,
            "ended_at": stamp if done else None,
            "results_url": f"{self.server_state.url}/v1/messages/batches/{job}/results" if done else None,
        }

    def _seen(self, body: Any) -> None:
        with self.server_state.lock:
            self.server_state.seen.append(
                Seen(self.path.split("?")[0], {name.lower(): value for name, value in self.headers.items()}, body)
            )

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):  # the client has given up
            self.close_connection = True


def _form_file(kind: str, data: bytes) -> str:
    """The uploaded file of a multipart form."""
    form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + data)
    file = next(part for part in form.iter_parts() if part.get_param("name", header="content-disposition") == "file")
    payload: Any = file.get_payload(decode=True)
    return payload.decode()


KEY = "sk-test-Vq7mZ2planted0key9XwL"


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[VendorServer]:
    """A fresh server; the environment holds a key and no proxy."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    server = VendorServer()
    yield server
    server.stop()
