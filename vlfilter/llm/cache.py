"""Every paid answer under the hash of its question: nothing is paid for twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from vlfilter.data.storage import check_writable, join, read_bytes, write_bytes
from vlfilter.errors import StorageError, VlfilterError
from vlfilter.llm.types import Answer, Outcome, Request, Usage

CLIENT_VERSION = 1  # raise it when the same Request is worded differently to a vendor
KEPT = (Outcome.ANSWERED, Outcome.REFUSED)  # both were paid for; the others are worth another try


def again(answer: Answer) -> Answer:
    """The answer for whoever asks the same at the same time: free, and cached where it will be."""
    return replace(answer, cached=answer.outcome in KEPT, usd=0.0)


def cache_key(request: Request, vendor: str, model: str, server: str) -> str:
    """SHA-256, 64 hex digits, over all that changes the answer. `server` is "" for the vendor's own address."""
    parts: dict[str, Any] = {
        "client": CLIENT_VERSION,
        "vendor": vendor,
        "server": server,
        "model": model,
        "prompt": request.prompt,
        "system": request.system,
        "images": [[image.media_type, hashlib.sha256(image.data).hexdigest()] for image in request.images],
        "schema": request.schema,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    later = {"seed": request.seed, "top_p": request.top_p, "stop": request.stop or None, "extra": request.extra or None}
    # requests without these keep the keys they had before there were any
    parts |= {name: value for name, value in later.items() if value is not None}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """JSON objects in a folder or under an `s3://` prefix; None keeps answers for the life of the process."""

    def __init__(self, url: str | None):
        self.url = url
        self._memory: dict[str, Answer] = {}

    def check(self) -> None:
        """Fail before the first answer is paid for, not after."""
        if self.url is not None:
            check_writable(self.url)

    def get(self, key: str) -> Answer | None:
        """The answer, marked as cached and free; None where there is none, or where the entry is damaged."""
        if self.url is None:
            found = self._memory.get(key)
        else:
            try:
                found = _decode(read_bytes(self._place(key)), key)
            except FileNotFoundError:
                return None
            except (OSError, VlfilterError) as error:
                raise StorageError(f"the judge's cache {self.url} cannot be read: {error}") from error
        return replace(found, cached=True, usd=0.0) if found else None

    def put(self, key: str, answer: Answer) -> None:
        if answer.outcome not in KEPT:
            return
        if self.url is None:
            self._memory[key] = answer
            return
        try:
            write_bytes(self._place(key), _encode(key, answer))
        except OSError as error:
            raise StorageError(f"the judge's cache {self.url} cannot be written: {error}") from error

    def _place(self, key: str) -> str:
        return join(self.url or "", "answers", key[:2], f"{key}.json")


def _encode(key: str, answer: Answer) -> bytes:
    entry = {"key": key, **asdict(answer)}
    del entry["cached"]
    return json.dumps(entry, ensure_ascii=True).encode()


def _decode(data: bytes, key: str) -> Answer | None:
    try:
        entry: dict[str, Any] = json.loads(data)
        answer = Answer(
            outcome=Outcome(entry["outcome"]),
            text=_text(entry["text"]),
            data=entry["data"],
            reason=_text(entry["reason"]),
            usage=Usage(**{name: int(value) for name, value in entry["usage"].items()}),
            usd=float(entry["usd"]),
            model=_text(entry["model"]),
        )
        return answer if entry["key"] == key and answer.outcome in KEPT else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
