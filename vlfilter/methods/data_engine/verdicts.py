"""The table of verdicts on generated questions, and the rule by which they decide what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from vlfilter.data.aokvqa import VqaRow
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.verify_rules import OVERLAPS, REPEATS

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # its place in the input, from 0
        ("image", pa.string()),
        ("question_type", pa.string()),
        ("question", pa.string()),
        ("correct_choice", pa.string()),
        ("image_verdict", pa.string()),
        ("image_reason", pa.string()),
        ("image_choice", pa.int32()),  # a place in the row's own choices
        ("text_verdict", pa.string()),
        ("text_reason", pa.string()),
        ("text_choices", pa.list_(pa.int32())),  # of both turns
        ("duplicate_of", pa.int64()),  # a `row`
        ("duplicate_similarity", pa.float64()),
        ("earlier_verdict", pa.string()),  # what it has of an earlier round's row
        ("earlier_file", pa.string()),
        ("earlier_row", pa.int64()),
        ("earlier_similarity", pa.float64()),
        ("overlap_verdict", pa.string()),
        ("overlap_question_id", pa.string()),
        ("overlap_similarity", pa.float64()),
        ("leak_reason", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("kept", pa.bool_()),
        ("status", pa.string()),  # ok, or the first of the reasons below that speaks against the row
        ("reason", pa.string()),  # all that speaks against it
    ]
)


class ImageVerdict(StrEnum):
    """What the judge that sees the image says to the generator's answer, which it does not know."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNSURE = "unsure"
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"
    NO_IMAGE = "no_image"
    NOT_ASKED = "not_asked"


class TextVerdict(StrEnum):
    """Whether the judge without the image has found the answer in both orders of the choices."""

    ANSWERED = "answered"
    NOT_ANSWERED = "not_answered"
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"
    NOT_ASKED = "not_asked"


_UNANSWERED = ("refused", "empty", "failed")


@dataclass(frozen=True, slots=True)
class VerifyRules:
    """What speaks against a row. A judge that was not asked never does.

    `overlap` is the mildest kind of overlap with the evaluation set that does (`OVERLAPS`, the gravest first), None for
    no kind; by default the same question about another image ("What is the man doing?") is too mild. `duplicate` is for
    doubles within the file and of earlier rounds. `keep_unanswered` keeps rows on which a judge gave no answer.
    """

    image_disagrees: bool = True
    image_unsure: bool = True
    no_image: bool = True
    text_answered: bool = True
    duplicate: bool = True
    overlap: str | None = "question_and_choices"
    leak: bool = True
    keep_unanswered: bool = False

    def __post_init__(self) -> None:
        if self.overlap is not None and self.overlap not in OVERLAPS:
            raise VlfilterError(f"there is no overlap called {self.overlap!r}: use one of {', '.join(OVERLAPS)}.")

    @property
    def overlaps(self) -> tuple[str, ...]:
        """The kinds of overlap that speak against a row."""
        return OVERLAPS[: OVERLAPS.index(self.overlap) + 1] if self.overlap is not None else ()

    def parts(self) -> dict[str, Any]:
        return asdict(self)


def why_not(record: Mapping[str, Any], rules: VerifyRules) -> list[tuple[str, str]]:
    """(status, reason) of all that speaks against a row, the gravest first; empty where it is kept."""
    image, text = record["image_verdict"], record["text_verdict"]
    found = [
        (rules.image_disagrees and image == ImageVerdict.DISAGREES, "image_disagrees", record["image_reason"]),
        (rules.image_unsure and image == ImageVerdict.UNSURE, "image_unsure", record["image_reason"]),
        (rules.no_image and image == ImageVerdict.NO_IMAGE, "no_image", record["image_reason"]),
        (rules.text_answered and text == TextVerdict.ANSWERED, "text_answered", record["text_reason"]),
        (
            record["overlap_verdict"] in rules.overlaps,
            "overlap",
            f"it shares {record['overlap_verdict']} with question {record['overlap_question_id']} of the evaluation",
        ),
        (
            rules.duplicate and record["duplicate_of"] is not None,
            "duplicate",
            f"it is like row {record['duplicate_of']} (similarity {record['duplicate_similarity'] or 0:.2f})",
        ),
        (
            rules.duplicate and record["earlier_verdict"] in REPEATS,
            "earlier",
            f"it shares {record['earlier_verdict']} with row {record['earlier_row']} of {record['earlier_file']} "
            f"(similarity {record['earlier_similarity'] or 0:.2f})",
        ),
        (rules.leak and bool(record["leak_reason"]), "leak", record["leak_reason"]),
        (not rules.keep_unanswered and image in _UNANSWERED, f"image_{image}", record["image_reason"]),
        (not rules.keep_unanswered and text in _UNANSWERED, f"text_{text}", record["text_reason"]),
    ]
    return [(status, reason) for speaks, status, reason in found if speaks]


def record_of(number: int, row: VqaRow | None) -> dict[str, Any]:
    """The columns that say which row it is; the others are empty."""
    empty: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    if row is None:
        return empty | {"row": number}
    return empty | {
        "row": number,
        "image": row.file_name,
        "question_type": row.question_type,
        "question": row.question,
        "correct_choice": row.correct_choice,
    }
