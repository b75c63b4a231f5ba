"""Questions as conversations in LLaVA's format, in the wordings that the engine trains on."""

from __future__ import annotations

from typing import Literal

from vlfilter.data.annotations import Instruction, Turn
from vlfilter.data.aokvqa import LETTERS, VqaRow, choices_text
from vlfilter.methods.data_engine.records import storable

Format = Literal["Q-A", "QM-A", "QM-AE"]
FORMATS: tuple[Format, ...] = ("Q-A", "QM-A", "QM-AE")


def training_texts(row: VqaRow, form: Format) -> tuple[str, str]:
    """(question, answer) as the original's data set class words them.

    `Q-A` asks without choices, `QM-A` with them, `QM-AE` has the longest rationale behind the answer.
    """
    asked, answer = row.question.strip(), row.correct_choice.strip()
    if form == "Q-A":
        return asked, f"The answer is {answer}."
    asked += "\n" + choices_text(row.choices)
    said = f"The answer is ({LETTERS[row.correct_choice_idx]}) {answer}."
    if form == "QM-AE" and row.rationales:
        said += " " + max(row.rationales, key=len)
    return asked, said


def to_instruction(row: VqaRow, form: Format, number: int, image_prefix: str = "") -> Instruction:
    """`number` (from 0) makes the id where the row has none; the image's path is `image_path`, or its name in COCO."""
    asked, said = training_texts(row, form)
    name = row.question_id or f"{row.file_name.rsplit('/', 1)[-1].removesuffix('.jpg') or 'row'}_{number}"
    path = row.image_path or row.file_name
    image = (f"{image_prefix.rstrip('/')}/{path}" if image_prefix and path else path) or None
    turns = (Turn("human", storable(f"<image>\n{asked}" if image else asked)), Turn("gpt", storable(said)))
    return Instruction(storable(name), turns, storable(image) if image else None)
