"""How the engine asks its generator: the published sampling, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlfilter.llm.types import Answer, Request

# What the published scripts send beside the prompt. All but the last is the API's default; the last should forbid the
# end-of-text token, but that number means something else in GPT-4's vocabulary.
PUBLISHED_EXTRA: dict[str, Any] = {
    "n": 1,
    "stream": False,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {"50256": -100},
}


class Generator(Protocol):
    """What of `vlfilter.llm.client.Judge` is used here."""

    def ask_all(
        self, requests: Sequence[Request], on_answer: Callable[[int, Answer], None] | None = None
    ) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0.7, nucleus 0.9, 800 tokens and the stop text `###`, as published.

    `published_extra` adds the scripts' further parameters, for payloads that are theirs to the last field.
    """

    max_tokens: int = 800
    temperature: float | None = 0.7
    top_p: float | None = 0.9
    stop: tuple[str, ...] = ("###",)
    published_extra: bool = False

    def request(self, prompt: str, labels: dict[str, str]) -> Request:
        return Request(
            prompt,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=self.stop,
            extra=PUBLISHED_EXTRA if self.published_extra else {},
            labels=labels,
        )

    def parts(self) -> dict[str, Any]:
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": list(self.stop),
            "published_extra": self.published_extra,
        }


@dataclass(slots=True)
class Account:
    """Tokens and dollars of the answers so far; a cached answer costs nothing."""

    asked: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    models: set[str] = field(default_factory=set)

    def add(self, answer: Answer) -> None:
        self.asked += 1
        self.cached += answer.cached
        self.input_tokens += answer.usage.input_tokens
        self.output_tokens += answer.usage.output_tokens
        self.usd += answer.usd
        if answer.model:
            self.models.add(answer.model)

    def told(self) -> dict[str, Any]:
        return {"asked": self.asked, "cached": self.cached, "usd": round(self.usd, 6)}
