"""How a multiple-choice question is worded for training: the answer formats of MLLM-DataEngine's data sets."""

from __future__ import annotations

from typing import Literal

from vlfilter.data.aokvqa import LETTERS, VqaRow, choices_text

Format = Literal["Q-A", "QM-A", "QM-AE", "mmbench"]
FORMATS: tuple[Format, ...] = ("Q-A", "QM-A", "QM-AE", "mmbench")
EXPLAINED: tuple[Format, ...] = ("QM-AE", "mmbench")  # these have a rationale behind the answer


def training_texts(row: VqaRow, form: Format) -> tuple[str, str]:
    """(question, answer) as the original's data set class words them.

    `Q-A` asks without choices, `QM-A` with them in one line, `QM-AE` has the longest rationale behind the answer (none
    where the row has none), `mmbench` is the same with a line a choice.
    """
    asked, answer = row.question.strip(), row.correct_choice.strip()
    if form == "Q-A":
        return asked, f"The answer is {answer}."
    if form == "mmbench":
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row.choices, strict=False))
    else:
        choices = choices_text(row.choices)
    said = f"The answer is ({LETTERS[row.correct_choice_idx]}) {answer}."
    if form in EXPLAINED and row.rationales:
        said += " " + max(row.rationales, key=len)
    return f"{asked}\n{choices}", said
