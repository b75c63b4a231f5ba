"""A-OKVQA's rows, the engine's first questions among them, as MLLM-DataEngine's step 5 reads them."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from vlfilter.data.annotations import Instruction, Turn
from vlfilter.data.aokvqa import VqaRow, parse_rows
from vlfilter.data.vqa_formats import Format, training_texts
from vlfilter.models.conversation import IMAGE_PLACEHOLDER
from vlfilter.training.mixture import SCHEMA_FORMATS, MixtureEntry
from vlfilter.training.mixture_files import DatasetRows, read_json, sampled


def read_aokvqa(entry: MixtureEntry, seed: int) -> DatasetRows:
    """The original's filters in its order: the sample is drawn after the first."""
    found = read_json(entry)
    rows, bad = parse_rows(found, str(entry.data))
    flat = found if isinstance(found, list) else [row for group in found.values() for row in group]
    lost = {row.number for row in bad}
    numbered = list(zip((number for number in range(len(flat)) if number not in lost), rows, strict=True))
    unreadable, filtered = [str(row) for row in bad], Counter[str]()
    answered = [(number, row) for number, row in numbered if row.correct_choice]
    if count := len(numbered) - len(answered):
        filtered["its correct choice is empty"] = count
    chosen, aside = sampled(answered, entry, seed)
    kept = []
    for number, row in chosen:
        if reason := _left_out(row, flat[number], entry):
            filtered[reason] += 1
        elif image := _image(row):
            kept.append(_instruction(row, image, number, entry))
        else:
            unreadable.append(f"row {number} ({row.question_id or row.image_id or 'without id'}): it names no image")
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
