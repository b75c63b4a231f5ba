"""Questions with short answers: VQAv2, OK-VQA, A-OKVQA's direct answers and GQA as LAVIS has them, and OCR-VQA."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlfilter.data.schemas.base import (
    Example,
    How,
    LeftOutError,
    Schema,
    fields,
    id_of,
    image_of,
    lists,
    read_object,
    text,
    worded,
)

ANSWERS = ("answer", "answers", "direct_answers")  # VQAv2's and GQA's, the official VQA files', A-OKVQA's
TRAIN = 1  # OCR-VQA's number of the split


def _question(row: Any, how: How) -> Example:
    row = fields(row)
    asked = text(row, "question")
    name = next((name for name in ANSWERS if row.get(name) is not None), None)
    if name is None:
        raise ValueError("it has no answer")
    told = row[name] if isinstance(row[name], list) else [row[name]]
    answers = [entry.get("answer") if isinstance(entry, Mapping) else entry for entry in told]
    if not answers:
        raise ValueError(f"{name} is an empty list")
    said = tuple(how.text(worded(answer, name)) for answer in answers)
    image = image_of(row, "image", "image_id")
    return Example(id_of(row, "question_id", "id"), image, (how.text(asked),), said)


def _covers(urls: Sequence[str]) -> Iterator[Any]:
    """A question at a time, of an object from book to its questions and answers."""
    for url in urls:
        for book, told in read_object(url).items():
            asked, said = (told.get(name) for name in ("questions", "answers")) if isinstance(told, dict) else (0, 0)
            if not (isinstance(asked, list) and isinstance(said, list) and len(asked) == len(said)):
                yield {"id": book, "problem": "its questions and answers are not two lists of one length"}
                continue
            shared = {"id": book, "imageURL": told.get("imageURL"), "split": told.get("split")}
            yield from (shared | {"question": q, "answer": a} for q, a in zip(asked, said, strict=True))


def _cover(row: Any, how: How) -> Example:
    if "problem" in row:
        raise ValueError(row["problem"])
    if row["split"] != TRAIN:
        raise LeftOutError(f"it is of split {row['split']}, not {TRAIN}")
    if not isinstance(row["imageURL"], str):
        raise ValueError("it has no imageURL")
    image = row["id"] + os.path.splitext(row["imageURL"])[1]  # the file's name; the address is not asked
    return Example(row["id"], image, (how.text(text(row, "question")),), (how.text(text(row, "answer")),))


VQA = Schema(lists, _question, "vqa")
OCR_VQA = Schema(_covers, _cover, "vqa")
