"""Multiple-choice questions about images in A-OKVQA's JSON: its published rows, those of an evaluation, generated ones.

A file is a list of rows, or an object from question type to list, as the engine's scripts write it. Format: A-OKVQA
(Schwenk et al., 2022) and MLLM-DataEngine's additions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class VqaRow:
    """One question. `correct_choice_idx` is a place in `choices`.

    `question_id` is that of `question_id` or `idx`; "" for generated rows, which have none. `image_id` is a text where
    the images are named otherwise than COCO's. Fields of the file that are
    not named here are kept in `extra`, as they are; `order` is that of the row's keys in the file, so that a row comes
    out as it went in.
    """

    question: str
    choices: tuple[str, ...]
    correct_choice_idx: int
    question_id: str = ""
    image_id: int | str | None = None
    image_path: str | None = None
    direct_answers: tuple[str, ...] = ()
    difficult_direct_answer: bool = False
    rationales: tuple[str, ...] = ()
    question_type: str | None = None
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    @property
    def correct_choice(self) -> str:
        return self.choices[self.correct_choice_idx]

    @property
    def file_name(self) -> str:
        """The image's name in COCO 2017 where its id is a number, else `image_path`, or the id as a JPEG's name."""
        if isinstance(self.image_id, int):
            return f"{self.image_id:012d}.jpg"
        return self.image_path or (f"{self.image_id}.jpg" if self.image_id else "")


def choices_text(choices: Sequence[str]) -> str:
    """`(A) first (B) second …`, as prompts and training texts write them."""
    return " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def parse_row(row: Any) -> VqaRow:
    """One row of a file. Raises `ValueError` saying what is wrong with it."""
    if not isinstance(row, Mapping):
        raise ValueError("the row is not an object")
    question = _text(row, "question")
    choices = _texts(row, "choices")
    place = row.get("correct_choice_idx")
    if not choices:
        raise ValueError("it has no choices")
    if isinstance(place, bool) or not isinstance(place, int):
        raise ValueError(f"correct_choice_idx is {place!r}, not a whole number")
    if not 0 <= place < len(choices):
        raise ValueError(f"correct_choice_idx is {place}, but there are {len(choices)} choices")
    if len(choices) > len(LETTERS):
        raise ValueError(f"{len(choices)} choices are more than there are letters")
    return VqaRow(
        question,
        choices,
        place,
        _question_id(row),
        _image_id(row.get("image_id")),
        _optional(row, "image_path"),
        _texts(row, "direct_answers"),
        bool(row.get("difficult_direct_answer", False)),
        _texts(row, "rationales"),
        _optional(row, "question_type"),
        _optional(row, "split"),
        {name: value for name, value in row.items() if name not in _FIELDS},
        tuple(row),
    )


_FIELDS = (
    "split", "image_id", "image_path", "question_id", "idx", "question", "choices", "correct_choice_idx",
    "direct_answers", "difficult_direct_answer", "rationales", "question_type",
)  # fmt: skip


def row_json(row: VqaRow) -> dict[str, Any]:
    """The row for a file: known fields that say something, then the others; in the order they came in, if they did."""
    known: dict[str, Any] = {
        "split": row.split,
        "image_id": row.image_id,
        "image_path": row.image_path,
        "idx" if "idx" in row.order else "question_id": row.question_id or None,
        "question": row.question,
        "choices": list(row.choices),
        "correct_choice_idx": row.correct_choice_idx,
        "direct_answers": list(row.direct_answers) or None,
        "difficult_direct_answer": row.difficult_direct_answer if row.direct_answers else None,
        "rationales": list(row.rationales) or None,
        "question_type": row.question_type,
    }
    if "difficult_direct_answer" in row.order:
        known["difficult_direct_answer"] = row.difficult_direct_answer
    for name in ("direct_answers", "rationales"):
        if name in row.order:
            known[name] = list(getattr(row, name))
    told = {name: value for name, value in known.items() if value is not None} | dict(row.extra)
    names = [name for name in row.order if name in told]
    return {name: told[name] for name in dict.fromkeys([*names, *told])}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: its place in the file (from 0, through all lists), its id if it has one, and why."""

    number: int
    question_id: str
    reason: str
    row: Any

    def __str__(self) -> str:
        return f"row {self.number} ({self.question_id or 'without id'}): {self.reason}"


def read_rows(url: str) -> tuple[list[VqaRow], list[BadRow]]:
    """The rows of a file in its order, and those that cannot be used. A question asked twice by id stays once.

    In an object from type to rows, a row without a type gets that of its list. Raises `VlfilterError` for a file that
    is missing or is neither form.
    """
    try:
        found = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None
    return parse_rows(found, url)


def parse_rows(found: Any, url: str) -> tuple[list[VqaRow], list[BadRow]]:
    """As `read_rows`, for what a file holds; `url` is for messages."""
    good: list[VqaRow] = []
    bad: list[BadRow] = []
    seen: dict[str, int] = {}
    for number, (kind, entry) in enumerate(_entries(found, url)):
        try:
            if kind is not None and isinstance(entry, dict) and entry.get("question_type") is None:
                entry = entry | {"question_type": kind}
            row = parse_row(entry)
            if row.question_id and row.question_id in seen:
                raise ValueError(f"its id is that of row {seen[row.question_id]}")
        except ValueError as error:
            bad.append(BadRow(number, _name(entry), str(error), entry))
            continue
        if row.question_id:
            seen[row.question_id] = number
        good.append(row)
    return good, bad


def _entries(found: Any, url: str) -> list[tuple[str | None, Any]]:
    if isinstance(found, list):
        return [(None, entry) for entry in found]
    if isinstance(found, dict) and all(isinstance(rows, list) for rows in found.values()):
        return [(kind, entry) for kind, rows in found.items() for entry in rows]
    raise VlfilterError(f"{url} is neither a JSON list of questions nor an object from question type to such lists.")


def by_type(rows: Iterable[VqaRow], types: Sequence[str] = ()) -> dict[str, list[VqaRow]]:
    """Rows by their type: `types` first, with empty lists where there is none, then others as they first come."""
    groups: dict[str, list[VqaRow]] = {kind: [] for kind in types}
    for row in rows:
        groups.setdefault(row.question_type or "", []).append(row)
    return groups


def write_rows(url: str, rows: Iterable[VqaRow]) -> None:
    """Write one JSON list (indent 2, as the original's), whole or not at all."""
    write_json(url, [row_json(row) for row in rows])


def write_rows_by_type(url: str, groups: Mapping[str, Sequence[VqaRow]]) -> None:
    """Write an object from type to rows, whole or not at all."""
    write_json(url, {kind: [row_json(row) for row in rows] for kind, rows in groups.items()})


def write_json(url: str, value: Any) -> None:
    """Same bytes for the same value; half a character (a lone surrogate) is written escaped, like all beyond ASCII."""
    write_bytes(url, (json.dumps(value, indent=2) + "\n").encode())


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"it has no {name}" if value is None else f"{name} is not a text")
    return value


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = row.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{name} is not a list of texts")
    return tuple(value)


def _optional(row: Mapping[str, Any], name: str) -> str | None:
    return None if row.get(name) is None else _text(row, name)


def _question_id(row: Mapping[str, Any]) -> str:
    value = row.get("question_id", row.get("idx"))
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("question_id is neither a text nor a number")
    return str(value)


def _image_id(value: Any) -> int | str | None:
    """A number is one in quotes too: the original's loader drops such rows without a word."""
    if value is None:
        return None
    if isinstance(value, str) and value:
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= 18 else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"image_id is {value!r}, neither a whole number nor a name")
    return value


def _name(entry: Any) -> str:
    value = entry.get("question_id", entry.get("idx", "")) if isinstance(entry, dict) else ""
    return str(value)
