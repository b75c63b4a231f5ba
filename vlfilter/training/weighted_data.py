"""Rows of Self-Filter's stage 1: conversations that know their place in the annotations, with their features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlfilter.data.annotations import Instruction, parse_instruction
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError

if TYPE_CHECKING:
    from vlfilter.data.features import Features


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A conversation and the number that its features go by."""

    unique_idx: int
    instruction: Instruction

    @property
    def id(self) -> str:
        return self.instruction.id or str(self.unique_idx)

    @property
    def images(self) -> tuple[str, ...]:
        return () if self.instruction.image is None else (self.instruction.image,)


def read_numbered(url: str) -> tuple[list[NumberedRow], list[str]]:
    """The rows of a LLaVA JSON file, and for each row that cannot be used a line that says why.

    A row's number is its field `unique_idx`, else its place in the file (the first is 0). Raises `VlfilterError` when
    the file is no JSON list, or two rows have one number.
    """
    try:
        rows = json.loads(read_bytes(url))
    except ValueError as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from error
    if not isinstance(rows, list):
        raise VlfilterError(f"{url} is not a JSON list of conversations (LLaVA's format).")
    good, bad = [], []
    seen: dict[int, int] = {}
    for place, row in enumerate(rows):
        try:
            instruction = parse_instruction(row)
            number = row.get("unique_idx", place)
            if not isinstance(number, int) or isinstance(number, bool):
                raise ValueError(f"unique_idx is {number!r}, not a number")
        except ValueError as error:
            name = row.get("id", "without id") if isinstance(row, dict) else "without id"
            bad.append(f"row {place} ({name}): {error}")
            continue
        if number in seen:
            raise VlfilterError(f"{url}: rows {seen[number]} and {place} are both number {number} (unique_idx).")
        seen[number] = place
        good.append(NumberedRow(number, instruction))
    return good, bad


def without_features(rows: Sequence[NumberedRow], features: Features) -> dict[int, str]:
    """Why rows have no features, by their number."""
    has = features.has([row.unique_idx for row in rows])
    return {
        row.unique_idx: features.reasons.get(row.unique_idx, "none are stored")
        for row, there in zip(rows, has, strict=True)
        if not there
    }
