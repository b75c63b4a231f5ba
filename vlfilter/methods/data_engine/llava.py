"""Questions as conversations in LLaVA's format, in the wordings that the engine trains on."""

from __future__ import annotations

from vlfilter.data.annotations import Instruction, Turn
from vlfilter.data.aokvqa import VqaRow
from vlfilter.data.vqa_formats import Format, training_texts
from vlfilter.methods.data_engine.records import storable


def to_instruction(row: VqaRow, form: Format, number: int, image_prefix: str = "") -> Instruction:
    """`number` (from 0) makes the id where the row has none; the image's path is `image_path`, or its name in COCO."""
    asked, said = training_texts(row, form)
    name = row.question_id or f"{row.file_name.rsplit('/', 1)[-1].removesuffix('.jpg') or 'row'}_{number}"
    path = row.image_path or row.file_name
    image = (f"{image_prefix.rstrip('/')}/{path}" if image_prefix and path else path) or None
    turns = (Turn("human", storable(f"<image>\n{asked}" if image else asked)), Turn("gpt", storable(said)))
    return Instruction(storable(name), turns, storable(image) if image else None)
