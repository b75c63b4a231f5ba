"""The prompt that asks a teacher for one question: the published one (v1), and ours after the later paper's (v2)."""

from __future__ import annotations

from collections.abc import Sequence

from vlfilter.data.aokvqa import VqaRow, choices_text
from vlfilter.methods.data_engine.image_info import ImageFacts, box_text, caption_text, region_text
from vlfilter.methods.data_engine.prompt_v1 import TEMPLATE
from vlfilter.methods.data_engine.question_types import definition_of, words_of

# The paper (arXiv 2308.13566, later version) names these sections and quotes the first two sentences; the rest of its
# prompt lies in a figure only, so these words are ours.
TEMPLATE_V2 = """Your task is to use the provided information, create diverse instructions with different language \
styles and accurate answers. Answer as if you were looking at the image itself; never mention the information that you \
were given.

Region Description (each line is a region of the image, [x1, y1, x2, y2] from 0 to 1, and what it shows):
{regions}
OCR Result (each line is a place in the image and the text that is written there):
{ocr}
Question Type: {type}. {explanation}

In-Context Examples:
{examples}

Write one new instruction of this type about the image, with a direct answer and four choices of which exactly one is \
right. It must be answerable from the information above alone; if that is not possible, answer 'Skip' and say why. Do \
not copy the examples. Use this form:
Question: ...
Choices: (A) ... (B) ... (C) ... (D) ...
Answer: The answer is (X): ...
Explanation: ...
"""
NO_OCR = "(no text was found)\n"


def example_text(row: VqaRow) -> str:
    """A mistaken question as the prompts show it, with the right answer: the row's own `prompt`, else built anew."""
    written = row.extra.get("prompt")
    if isinstance(written, str) and written:
        return written
    letter = chr(ord("A") + row.correct_choice_idx)
    return (
        f"Question: {row.question}\nChoices: {choices_text(row.choices)}\n"
        f"Answer: The answer is ({letter}): {row.correct_choice}.\nQuestion type: {words_of(row.question_type or '')}"
    )


def prompt_v1(question_type: str, facts: ImageFacts, examples: Sequence[VqaRow], indented: bool = False) -> str:
    """The published prompt: captions, boxes, the type with its definition, two examples.

    `indented` puts four spaces before each line of the template, as the released script does; the published prompts
    have none. A type that no table defines is explained by nothing.
    """
    first, second = examples
    name = words_of(question_type)
    return (_indent(TEMPLATE) if indented else TEMPLATE).format(
        type=name,
        captions=caption_text(facts),
        boxes=box_text(facts),
        explanation=definition_of(question_type) or "",
        example1=example_text(first),
        example2=example_text(second),
    )


def prompt_v2(question_type: str, facts: ImageFacts, examples: Sequence[VqaRow]) -> str:
    """Ours after the later paper: regions with boxes, text in the image, the type, any number of examples."""
    return TEMPLATE_V2.format(
        regions=region_text(facts.regions or facts.as_regions()),
        ocr=region_text(facts.ocr) or NO_OCR,
        type=words_of(question_type).capitalize(),
        explanation=definition_of(question_type) or "",
        examples="\n\n".join(f"Example {n}:\n{example_text(row)}" for n, row in enumerate(examples, 1)),
    )


def _indent(text: str) -> str:
    first, *lines = text.split("\n")
    return "\n".join([first, *(f"    {line}" if line else line for line in lines[:-1]), "    " + lines[-1]])
