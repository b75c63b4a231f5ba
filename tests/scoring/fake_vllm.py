"""A server that answers as vLLM does, from a made-up model, and can be told to misbehave.

What it leaves out of vLLM's API it refuses; the made-up next-token distribution depends on every token before it.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from vlfilter.models.tokenizer import TextTokenizer

IMAGE = 10**6  # the image's token here


@dataclass
class FakeVllm:
    """`faults` are used up one a request: an HTTP status, `half` a body, or `drop` the connection."""

    tokenizer: TextTokenizer
    image_tokens: int
    key: str = ""
    max_length: int = 4096
    likes: Sequence[int] = ()  # tokens that the model prefers
    processed: bool = False  # log-probabilities after what is not allowed was taken out
    template: str = "{exact_prompt}"
    keeps_images: bool = True
    refuses: str = ""  # prompts with this text
    stumbles: str = ""  # HTTP 500 for prompts with this text, for ever
    dead: bool = False
    faults: list[int | str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, np.ndarray] = field(default_factory=dict)
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0

    def __enter__(self) -> FakeVllm:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.get(self)

            def do_POST(self) -> None:
                fake.post(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if self.dead:
            handler.close_connection = True
        elif handler.path != "/v1/models":
            self._send(handler, 404, {"detail": "Not Found"})
        elif self._known(handler):
            self._send(handler, 200, {"data": [{"id": "tiny", "max_model_len": self.max_length}]})

    def _known(self, handler: BaseHTTPRequestHandler) -> bool:
        if self.key and handler.headers.get("Authorization") != f"Bearer {self.key}":
            self._send(handler, 401, {"error": "Unauthorized"})
            return False
        return True

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            fault = "drop" if self.dead else self.faults.pop(0) if self.faults else None
        try:
            if not self._known(handler):
                return
            if fault == "drop":
                handler.close_connection = True
            elif isinstance(fault, int):
                self._send(handler, fault, {"error": {"message": "not now"}}, {"Retry-After": "0"})
            else:
                self._send(handler, *self.answer(body), half=fault == "half")
        finally:
            with self._lock:
                self._now -= 1

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        prompt = self.template.format(**body["chat_template_kwargs"])
        if self.refuses and self.refuses in prompt:
            return 400, {"error": {"message": "this one is too long"}}
        if self.stumbles and self.stumbles in prompt:
            return 500, {"error": {"message": "internal error"}}
        (part,) = body["messages"][0]["content"]
        with self._lock:
            self.requests.append(body)
            if part["image_url"]:
                url = part["image_url"]["url"].removeprefix("data:image/png;base64,")
                self.images[part["uuid"]] = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))
            elif not self.keeps_images or part["uuid"] not in self.images:
                return 400, {"error": {"message": "Cache miss for image at index 0 but data is not provided."}}
        head, tail = prompt.split("<image>")
        control = self.tokenizer.ids_with_control
        ids = [*control(head), *([IMAGE] * self.image_tokens), *control(tail)]
        tokens, told = list(ids), []
        wanted = body.get("logprob_token_ids") or []
        while len(told) < body["max_tokens"]:
            logs = self.next(tokens)
            free = logs.copy()
            if allowed := body.get("allowed_token_ids"):
                free = np.full_like(logs, -np.inf)
                free[allowed] = logs[allowed]
            if self.processed:
                logs = free - np.logaddexp.reduce(free)
            tokens.append(int(free.argmax()))
            shown = [{"token": f"token_id:{t}", "logprob": max(float(logs[t]), -9999.0)} for t in wanted]
            told.append({"token": f"token_id:{tokens[-1]}", "top_logprobs": shown})
        answer = {"choices": [{"logprobs": {"content": told}}], "usage": {"prompt_tokens": len(ids)}}
        return 200, answer | ({"prompt_token_ids": ids} if body.get("return_token_ids") else {})

    def next(self, tokens: Sequence[int]) -> np.ndarray:
        """Log-probabilities (vocabulary,) of the token after some, image tokens as they come."""
        seed = np.random.SeedSequence(list(tokens))
        logits = np.random.default_rng(seed).normal(size=len(self.tokenizer.hf)) * 2
        logits[list(self.likes)] += 6
        return np.asarray(logits - np.logaddexp.reduce(logits))

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: dict[str, Any],
        headers: dict[str, str] | None = None,
        half: bool = False,
    ) -> None:
        data = json.dumps(body).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            handler.close_connection = True
