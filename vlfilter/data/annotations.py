"""Instruction data in LLaVA's format: one JSON list of conversations about images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError

SPEAKERS = ("human", "gpt")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one `speaker` (`human` or `gpt`) says."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One row: turns that alternate, the human first. `image` is a path below an image folder, None for text only."""

    id: str
    turns: tuple[Turn, ...]
    image: str | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(question, answer) texts."""
        texts = [turn.text for turn in self.turns]
        return list(zip(texts[0::2], texts[1::2], strict=True))

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.id}
        if self.image is not None:
            row["image"] = self.image
        return row | {"conversations": [{"from": turn.speaker, "value": turn.text} for turn in self.turns]}


def parse_instruction(row: Any) -> Instruction:
    """One row of a LLaVA file. Raises `ValueError` saying what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("the row is not an object")
    said = row.get("conversations")
    if not isinstance(said, list) or not said:
        raise ValueError("it has no conversations")
    turns = []
    for i, turn in enumerate(said):
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if speaker != SPEAKERS[i % 2] or not isinstance(text, str):
            raise ValueError(f"turn {i} is not a text from {SPEAKERS[i % 2]!r}")
        turns.append(Turn(speaker, text))
    if len(turns) % 2:
        raise ValueError("the last question has no answer")
    image = row.get("image")
    if image is not None and not isinstance(image, str):
        raise ValueError("image is not a path")
    return Instruction(str(row.get("id", "")), tuple(turns), image or None)


def read_instructions(url: str) -> tuple[list[Instruction], list[str]]:
    """The rows of a LLaVA JSON file, and for each row that cannot be used a line that says why.

    Raises `VlfilterError` when the file is no JSON list.
    """
    try:
        rows = json.loads(read_bytes(url))
    except ValueError as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from error
    if not isinstance(rows, list):
        raise VlfilterError(f"{url} is not a JSON list of conversations (LLaVA's format).")
    good, bad = [], []
    for number, row in enumerate(rows):
        try:
            good.append(parse_instruction(row))
        except ValueError as error:
            name = row.get("id", "without id") if isinstance(row, dict) else "without id"
            bad.append(f"row {number} ({name}): {error}")
    return good, bad


def write_instructions(url: str, rows: Iterable[Instruction]) -> None:
    """Write rows as one JSON list, whole or not at all."""
    text = ",\n".join(json.dumps(row.to_json(), ensure_ascii=False) for row in rows)
    write_bytes(url, f"[\n{text}\n]\n".encode())
