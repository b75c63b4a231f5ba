"""What the teacher is asked about a pair, and how its answer is read (MLM-Filter, arXiv 2403.02677, §3 and its figure).

GPT-4V sees the image in front of the published text; a teacher without eyes gets a detailed description in its place.
"""

from __future__ import annotations

import re
from typing import Literal

from vlfilter.llm.types import Answer, Image, Outcome, Request
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus
from vlfilter.methods.mlm_filter.pairs import ChosenPair
from vlfilter.scoring.answers import read_score
from vlfilter.scoring.mlm_filter_prompts import instruction, question_part

View = Literal["image", "caption"]
_OUTCOMES = {
    Outcome.REFUSED: GradeStatus.REFUSED,
    Outcome.EMPTY: GradeStatus.EMPTY,
    Outcome.FAILED: GradeStatus.FAILED,
}
_BEHIND_SCORE = re.compile(r"\s*(?:/\s*100)?[\s.,;:–—-]*")


def image_question(caption: str, metric: str, version: int, image: Image) -> tuple[str, tuple[Image, ...]]:
    return instruction(metric, caption, version), (image,)


def described_question(caption: str, metric: str, version: int, description: str) -> tuple[str, tuple[Image, ...]]:
    return f"Image: {description}\n\nCaption: {caption}\n\n{question_part(metric, version)}", ()


def make_request(
    asked: tuple[str, tuple[Image, ...]], metric: str, max_tokens: int, temperature: float | None
) -> Request:
    prompt, images = asked
    labels = {"step": "mlm_filter grade", "round": metric}
    return Request(prompt, images=images, max_tokens=max_tokens, temperature=temperature, labels=labels)


def read_grade(pair: ChosenPair, metric: str, version: int, answer: Answer) -> Grade:
    """The row of an answer; an answer without a number from 0 to 100 in its first line has no score, but stays."""
    score, status, reason = None, GradeStatus.OK, ""
    if answer.outcome is Outcome.ANSWERED:
        score = read_score(answer.text)
        if score is None:
            status = GradeStatus.UNPARSABLE
            reason = f"the first line is no number from 0 to 100: {answer.text.strip()[:80]!r}"
    else:
        status = _OUTCOMES[answer.outcome]
        reason = answer.reason or str(answer.outcome)
    usage = answer.usage
    return Grade(
        pair.id, pair.image, pair.caption, metric, version, score, answer.text, str(status), reason,
        answer.model, usage.input_tokens, usage.output_tokens, answer.usd,
    )  # fmt: skip


def no_grade(pair: ChosenPair, metric: str, version: int, status: GradeStatus, reason: str) -> Grade:
    """The row of a question that could not be put."""
    return Grade(pair.id, pair.image, pair.caption, metric, version, None, "", str(status), reason)


def target_answer(score: int, answer: str) -> str:
    """What the student learns to say: the score alone on the first line, then the teacher's rationale.

    The score comes first so that a filter need not write the rationale to give it.
    """
    first, _, rest = answer.strip().partition("\n")
    digits = re.search(rf"(?<!\d){score}(?!\d)", first)
    behind = first[digits.end() :] if digits else ""
    rationale = f"{_BEHIND_SCORE.sub('', behind.replace('*', ''), count=1)}\n{rest}".strip()
    return f"{score}\n{rationale}" if rationale else str(score)
