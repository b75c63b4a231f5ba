"""Free answers against those of several people: normalisation and soft accuracy, as the VQA challenge scores them.

There are two evaluators in the published tree of MLLM-DataEngine, and they disagree. `official` is the challenge's own,
which the reported numbers come from. `lavis` is its sibling: it normalises the prediction always, of the people's
answers only the punctuation, and compares with regard to capitals. `always` is `official` that normalises always.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from vlfilter.evaluation.vqa_tables import ARTICLES, CONTRACTIONS, NUMBERS, PUNCTUATION

Evaluator = Literal["official", "lavis", "always"]

MOST_PERIODS = 32  # the published code passes re.UNICODE, which is 32, where the number of replacements goes
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")  # the mistyped look-behind is the published one
_COMMA = re.compile(r"\d,\d")
FULL_MARKS = 3  # people who must agree


def strip_text(text: str) -> str:
    """Line breaks and tabs as blanks, none at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    """Marks beside a blank vanish, others become blanks; all vanish where the text has a digit, a comma and a digit.
    Then full stops vanish that stand before no digit."""
    out = text
    for mark in PUNCTUATION:
        gone = f"{mark} " in text or f" {mark}" in text or _COMMA.search(text) is not None
        out = out.replace(mark, "" if gone else " ")
    return _PERIOD.sub("", out, count=MOST_PERIODS)


def normalise_words(text: str) -> str:
    """Lower case, number words as digits, no articles, contractions with their apostrophes."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise(text: str) -> str:
    """An answer as it is compared: stripped, without punctuation, its words normalised."""
    return normalise_words(strip_punctuation(strip_text(text)))


def soft_accuracy(
    prediction: str, answers: Sequence[str], marks: Sequence[object] | None = None, evaluator: Evaluator = "official"
) -> float:
    """From 0 to 1: over each person's answer left out in turn, the mean of min(1, others who agree / 3).

    `marks` are what else an annotation holds of each answer (its id, its confidence). By default each is its own; where
    answer and mark are the same, the evaluators take two answers for one, so ten alike without ids give 0. Where all
    answers are the same text, `official` normalises nothing. Raises `ValueError` without answers.
    """
    if not answers:
        raise ValueError("nobody's answer is there to compare with")
    if evaluator == "lavis":
        texts, predicted = _lavis(prediction, answers)
    else:
        texts, predicted = _official(prediction, answers, always=evaluator == "always")
    entries = list(zip(texts, range(len(texts)) if marks is None else marks, strict=True))
    scores = []
    for entry in entries:
        agreeing = sum(other != entry and other[0] == predicted for other in entries)
        scores.append(min(1.0, agreeing / FULL_MARKS))
    return sum(scores) / len(scores)


def _official(prediction: str, answers: Sequence[str], always: bool) -> tuple[list[str], str]:
    texts, predicted = [strip_text(answer) for answer in answers], strip_text(prediction)
    if always or len(set(texts)) > 1:
        texts, predicted = [normalise(text) for text in texts], normalise(predicted)
    return [text.lower() for text in texts], predicted.lower()


def _lavis(prediction: str, answers: Sequence[str]) -> tuple[list[str], str]:
    several = len(set(answers)) > 1
    return [strip_punctuation(answer) if several else answer for answer in answers], normalise(prediction)


def vizwiz_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """min(1, equal answers / 3) with regard to nothing but letters' case, as the published VizWiz script scores."""
    return min(1.0, sum(answer.lower() == prediction.lower() for answer in answers) / FULL_MARKS)


def percent(scores: Iterable[float]) -> float:
    """Their mean in percent, 2 digits. Raises `ValueError` when there are none."""
    listed = list(scores)
    if not listed:
        raise ValueError("there are no scores")
    return round(100 * float(sum(listed)) / len(listed), 2)


def percent_by(scores: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """`percent` of each group (question type, answer type), in order of first appearance."""
    found: dict[str, list[float]] = defaultdict(list)
    for score, group in zip(scores, groups, strict=True):
        found[group].append(score)
    return {group: percent(members) for group, members in found.items()}
