"""What goes to the judge and what comes back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vlfilter.errors import VlfilterError

_MARKER = re.compile(
    r"<\|[\w-]{1,40}\|>|<\uff5c[^<>\n]{1,40}\uff5c>|</?s>|<[be]os>|<image>|<(?:start|end)_of_turn>"
    r"|\[/?INST\]|<</?SYS>>",
    re.I,
)
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif")  # those that both vendors read


@dataclass(frozen=True, slots=True)
class Image:
    """An image file as it lies in a shard; nothing is decoded on the way to the vendor."""

    data: bytes
    media_type: str

    def __post_init__(self) -> None:
        if self.media_type not in MEDIA_TYPES:
            raise VlfilterError(f"the judge cannot read {self.media_type!r}: use one of {', '.join(MEDIA_TYPES)}.")


@dataclass(frozen=True, slots=True)
class Request:
    """One question: images first, then the prompt.

    With `schema` (JSON schema, draft 2020-12) the answer is asked for as JSON, validated, and asked for once more with
    the error where it is not valid. `max_tokens` bounds the answer, a reasoning model's thinking included.
    `temperature=None` is not sent; models that take none are not sent one either. `seed` is sent where it is given and
    the API has one (OpenAI's). `top_p` and `stop` (texts that end the answer) are left out for models that take none.
    `extra` goes as it is into the request of an API like OpenAI's, and nowhere else. `labels` (step, shard, round) are
    for accounting only and no part of the cache key. Chat markers in the prompt (`<|im_end|>`, `</s>`, `[INST]`, …)
    come from data and are broken by a blank: servers of open models read them as the end of a turn.
    """

    prompt: str
    images: tuple[Image, ...] = ()
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 1024
    temperature: float | None = 0.0
    seed: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", without_markers(self.prompt))


def without_markers(text: str) -> str:
    """The text with a blank behind the first character of each chat marker; all else stays as it is."""
    return _MARKER.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


class Outcome(StrEnum):
    """Three ways of having no answer, kept apart.

    REFUSED: the vendor said, in its own form for that, that it does not answer this; a polite "I cannot" in plain text
    is text. EMPTY: an answer without text. FAILED: no usable answer (errors after all retries, rejected request, JSON
    that is still not valid after the repair).
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the vendor counts them; `cached_input_tokens` and `cache_write_tokens` are parts of `input_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` as the model wrote it, `data` where a schema was asked for, `reason` where something is to be said.

    `usage` is what the answer took when it was asked for (the repair included); `usd` is what it cost now: nothing for
    a cached one. `model` is the name that the vendor gives to the model that answered.
    """

    outcome: Outcome
    text: str = ""
    data: Any = None
    reason: str = ""
    usage: Usage = Usage()
    usd: float = 0.0
    cached: bool = False
    model: str = ""
