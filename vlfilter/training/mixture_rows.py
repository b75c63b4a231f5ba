"""The rows of a mixture's data sets as conversations, and what was left out of each, with the reason."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from vlfilter.data.annotations import Instruction, Turn, read_instructions
from vlfilter.data.aokvqa import VqaRow, parse_rows
from vlfilter.data.storage import read_bytes
from vlfilter.data.vqa_formats import Format, training_texts
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import IMAGE_PLACEHOLDER
from vlfilter.training.mixture import SCHEMA_FORMATS, MixtureEntry

# MiniGPT-4's questions of its second stage, one of which stands before each caption
CAPTION_QUESTIONS = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """A data set's rows in the order of its file. `unreadable` are lines about rows that cannot be used, `filtered`
    about rows that are left out by rule; `not_sampled` rows were left aside by `sample_num`."""

    rows: list[Instruction]
    unreadable: list[str]
    filtered: list[str]
    not_sampled: int = 0


def read_dataset(entry: MixtureEntry, seed: int) -> DatasetRows:
    """The rows of an entry. `seed` decides `sample_num`'s choice and which question stands before a caption.

    Raises `VlfilterError` for a file that is missing or of another form.
    """
    if entry.kind == "aokvqa":
        return _aokvqa(entry, seed)
    rows, unreadable = _captions(entry, seed) if entry.kind == "captions" else _llava(entry)
    kept, aside = _sampled(rows, entry, seed)
    return DatasetRows(kept, unreadable, [], aside)


def _llava(entry: MixtureEntry) -> tuple[list[Instruction], list[str]]:
    try:
        return read_instructions(entry.data)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {entry.data} (data set {entry.name}).") from None


def _aokvqa(entry: MixtureEntry, seed: int) -> DatasetRows:
    """The original's filters in its order: the sample is drawn after the first."""
    found = _json(entry)
    rows, bad = parse_rows(found, entry.data)
    flat = found if isinstance(found, list) else [row for group in found.values() for row in group]
    lost = {row.number for row in bad}
    numbered = list(zip((number for number in range(len(flat)) if number not in lost), rows, strict=True))
    unreadable, filtered = [str(row) for row in bad], []
    answered = []
    for number, row in numbered:
        if row.correct_choice:
            answered.append((number, row))
        else:
            filtered.append(_line(number, row, "its correct choice is empty"))
    sampled, aside = _sampled(answered, entry, seed)
    kept = []
    for number, row in sampled:
        if reason := _left_out(row, flat[number], entry):
            filtered.append(_line(number, row, reason))
        elif image := _image(row):
            kept.append(_instruction(row, image, number, entry))
        else:
            unreadable.append(_line(number, row, "it names no image"))
    return DatasetRows(kept, unreadable, filtered, aside)


def _left_out(row: VqaRow, told: Any, entry: MixtureEntry) -> str | None:
    if not all(row.choices):
        return "one of its choices is empty"
    if row.rationales and "description" in row.rationales[0]:
        return "its first rationale speaks of a description"
    if entry.mode == "compat" and isinstance(told.get("image_id"), str):
        return "its image id is a text (mode compat)"
    return None


def _image(row: VqaRow) -> str:
    """Below the image folder: a path of another machine says nothing here, but an id does."""
    if row.image_path and not row.image_path.startswith("/"):
        return row.image_path
    return row.file_name


def _instruction(row: VqaRow, image: str, number: int, entry: MixtureEntry) -> Instruction:
    form = cast(Format, entry.format or SCHEMA_FORMATS["aokvqa"][0])
    asked, said = training_texts(row, form)
    turns = (Turn("human", f"{IMAGE_PLACEHOLDER}\n{asked}"), Turn("gpt", said))
    return Instruction(row.question_id or f"{entry.name}-{number}", turns, image)


def _captions(entry: MixtureEntry, seed: int) -> tuple[list[Instruction], list[str]]:
    """cc_sbu_align's file: `{"annotations": [{"image_id", "caption"}]}`, the image being `{image_id}.jpg`."""
    found = _json(entry)
    entries = found.get("annotations") if isinstance(found, dict) else found
    if not isinstance(entries, list):
        raise VlfilterError(f"{entry.data} has no list of captions (schema captions).")
    rows, bad = [], []
    for number, told in enumerate(entries):
        name = told.get("image_id") if isinstance(told, dict) else None
        caption = told.get("caption") if isinstance(told, dict) else None
        image = told.get("image", f"{name}.jpg") if isinstance(told, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(image, str):
            bad.append(f"row {number} (without id): it names no image")
        elif not isinstance(caption, str) or not caption.strip():
            bad.append(f"row {number} ({name}): it has no caption")
        else:
            asked = CAPTION_QUESTIONS[zlib.crc32(f"{seed} {number}".encode()) % len(CAPTION_QUESTIONS)]
            turns = (Turn("human", f"{IMAGE_PLACEHOLDER}\n{asked}"), Turn("gpt", caption))
            rows.append(Instruction(str(name), turns, image))
    return rows, bad


def _sampled(rows: Sequence[Row], entry: MixtureEntry, seed: int) -> tuple[list[Row], int]:
    """`sample_num` of the rows in their order, and how many were left aside."""
    count = entry.sample_num
    if count is None or count >= len(rows):
        return list(rows), 0
    chosen = random.Random(f"{seed} {entry.name}").sample(range(len(rows)), count)  # noqa: S311
    return [rows[place] for place in sorted(chosen)], len(rows) - count


def _line(number: int, row: VqaRow, reason: str) -> str:
    return f"row {number} ({row.question_id or row.image_id or 'without id'}): {reason}"


def _json(entry: MixtureEntry) -> Any:
    try:
        return json.loads(read_bytes(entry.data))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {entry.data} (data set {entry.name}).") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{entry.data} is not a JSON file: {error}") from None
