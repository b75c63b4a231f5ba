"""The four quality levels of UniFilter's synthetic data (arXiv 2510.15162, Table 1), in words of our own.

The prompts that made the published data were never published. These definitions and the instructions in
`vlfilter.methods.unifilter.questions` are ours; `VERSION` counts their changes and is part of every request.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1


@dataclass(frozen=True, slots=True)
class Level:
    """A level as a label (`score`), by its name in the paper, and what a text must be like to have it."""

    score: int
    name: str
    caption: str
    document: str


LEVELS = (
    Level(
        0,
        "easy negative",
        "A fluent caption of an entirely different picture: nothing that it names is to be seen here, neither the "
        "objects nor the place nor what happens.",
        "A text without a thread: its paragraphs do not follow from each other, it teaches nothing, and it has nothing "
        "to do with any of the pictures.",
    ),
    Level(
        1,
        "medium negative",
        "A caption of this picture with several plain mistakes: two or more of its objects, attributes, numbers or "
        "relations are wrong, though the subject can still be recognised.",
        "A text on the subject of the pictures that can be read and understood, but is poorly written (clumsy "
        "sentences, repetitions, slips of grammar), and whose paragraphs do not fit the pictures beside them.",
    ),
    Level(
        2,
        "hard negative",
        "The caption of level 3 word for word, with exactly one thing changed so that it becomes wrong: one object, "
        "one colour, one number, one position or one action.",
        "A well-written text with no more than small errors, which the pictures belong to in part only: they are "
        "loosely related to the paragraphs beside them and do not help to understand these.",
    ),
    Level(
        3,
        "positive",
        "A correct caption that covers all that matters in this picture: objects with their attributes, their number, "
        "where they are, what happens. Nothing in it is guessed.",
        "A well-written, informative text with a clear thread, in which every picture stands where it adds to the "
        "paragraphs beside it, and these speak of what it shows.",
    ),
)
SCORES = tuple(level.score for level in LEVELS)
