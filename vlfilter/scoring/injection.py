"""Captions that address the grader instead of describing the image: a flag beside every other scorer's score.

A list of patterns, none of them a model: it finds what is written out in English or as a known marker, so a caption
without the flag may still try something. Flagged ones are for a person to look at, or to leave out with
`--where "not (injection_suspect == 1)"`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.scoring.base import Prepared, ScorerSettings
from vlfilter.scoring.options import choose, refuse_options

CODE_VERSION = 1  # raised by whoever changes what is flagged
MARGIN = 20_000  # characters that are looked at, at the beginning and at the end of a longer text

_GAP = re.compile(r"\s+")
_GRADER = r"(?:graders?|judges?|raters?|evaluators?|annotators?|ai|llm|gpt|(?:language|vision|ai)\smodel|assistant)"
_VERB, _NOUN = r"(?:give|assign|award|rate|score|grade)", r"(?:score|rating|grade|marks?|points?|100|maximum|highest)"
_ITEM = r"(?:this|the|each|every)\s(?:image|caption|pair|image-text\spair|sample|text|description)"
_BEGIN, _END = r"(?:\A|[\n.!?;:\"'(])\s?", r"\s?(?:\Z|[\n.!?;,\"')])"
_FULL = r"(?:100(?:\s?/\s?100)?|10\s?/\s?10)"
# What each finds, in the order in which they are tried; gaps are one blank or line break, and every repeat is bounded.
# Conservative: prices struck out in HTML, credits ("Assistant: J. Doe"), results of matches and reviews ("a perfect
# score of 10") are captions like others.
PATTERNS: dict[str, re.Pattern[str]] = {
    "chat marker": re.compile(
        r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<[be]os>|\A(?:(?!<s>)[\s\S])*</s>", re.I
    ),
    "chat turn": re.compile(
        r"\bASSISTANT:\s?\d|\bUSER:[\s\S]{0,300}\bASSISTANT:|###\s?(?:Human|Assistant|Instruction|Response|System):"
    ),
    "countermands": re.compile(
        r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|preceding|your)\b.{0,30}"
        r"\b(?:instructions?|prompts?|directions?|guidelines?|criteria|questions?|tasks?)\b",
        re.I | re.S,
    ),
    "asks for a score": re.compile(
        rf"\b{_VERB}\b.{{0,30}}\b{_ITEM}\b.{{0,60}}\b{_NOUN}\b"
        rf"|\b{_VERB}\b.{{0,40}}\b{_NOUN}\b.{{0,30}}\bto\s{_ITEM}\b",
        re.I | re.S,
    ),
    "names the score": re.compile(
        rf"{_BEGIN}(?:the\s)?(?:(?:final|correct|right|expected)\s)?(?:score|rating|grade|answer)\s?"
        rf"(?:(?:is|should\sbe|must\sbe|=|:)\s?)?{_FULL}{_END}"
        r"|\b(?:score|rating|grade)\s(?:should|must)\sbe\s(?:\d|the\shighest|maximal)",
        re.I,
    ),
    "speaks to the grader": re.compile(
        rf"\b(?:dear|hey|hello|attention|(?:note|message)\sto)[,:]?\s(?:the\s)?{_GRADER}\s?[,:!]", re.I
    ),
}


def suspicion(text: str) -> str | None:
    """Which pattern a text matches, or None. Compatibility forms and invisible characters do not hide one."""
    if len(text) > 2 * MARGIN:
        text = f"{text[:MARGIN]}\n{text[-MARGIN:]}"
    plain = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    plain = _GAP.sub(lambda gap: "\n" if "\n" in gap[0] else " ", plain)
    return next((name for name, pattern in PATTERNS.items() if pattern.search(plain)), None)


class InjectionSuspect:
    """Flags `ImageText` captions and the texts of documents; needs no model."""

    name = "injection"
    columns = pa.schema(
        [pa.field("injection_suspect", pa.bool_()), pa.field("injection_pattern", pa.string(), nullable=True)]
    )
    needs_model = False

    def __init__(self, settings: ScorerSettings):
        refuse_options(settings.options, self.name)
        choose(self.name, "compat", settings.compat, (None, "original"))

    def fingerprint(self) -> dict[str, Any]:
        return {"scorer": self.name, "code": CODE_VERSION}

    def load(self) -> None:
        pass

    def preparer(self) -> InjectionSuspect:
        return self

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        if isinstance(content, ImageText):
            return Prepared(1, suspicion(content.caption))
        return Prepared(1, suspicion("\n".join(text for text in content.texts if text)))

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        found = [prepared.payload for prepared in batch]
        return {"injection_suspect": [one is not None for one in found], "injection_pattern": found}
