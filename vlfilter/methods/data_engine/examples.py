"""How the engine's prompts write a question with its right answer."""

from __future__ import annotations

from vlfilter.data.aokvqa import LETTERS, VqaRow, choices_text
from vlfilter.methods.data_engine.question_types import words_of


def example_text(row: VqaRow, question_type: str) -> str:
    """The `prompt` field of a classified question: question, choices, right answer and type; four lines."""
    return (
        f"Question: {row.question}\n"
        f"Choices: {choices_text(row.choices)}\n"
        f"Answer: The answer is ({LETTERS[row.correct_choice_idx]}): {row.correct_choice}.\n"
        f"Question type: {words_of(question_type)}"
    )
