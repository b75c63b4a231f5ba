"""The teacher grades every chosen pair on every metric; one row each, whatever comes back."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vlfilter.data.image_files import for_teacher, inside
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.samples import SampleError
from vlfilter.data.storage import join, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Image, Request
from vlfilter.methods.mlm_filter.grades import OPEN, Grade, GradeStatus, read_grades, write_grades
from vlfilter.methods.mlm_filter.pairs import ChosenPair, read_pairs
from vlfilter.methods.mlm_filter.questions import (
    View,
    described_question,
    image_question,
    make_request,
    no_grade,
    read_grade,
)
from vlfilter.scoring.mlm_filter_prompts import METRICS

CODE_VERSION = 1
PAIRS_AT_A_TIME = 256  # whose images lie in memory together

log = logging.getLogger(__name__)


class Teacher(Protocol):
    """What of `vlfilter.llm.client.Judge` is used here."""

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class GradeSettings:
    """`teacher` names the model (and server) that answers, for the fingerprint.

    `version` is that of the published text; `view` is `image` (GPT-4V, GPT-4o) or `caption` (a teacher without eyes,
    which is given the description of the image in `descriptions`, a JSON object from a pair's id or key to text).
    """

    teacher: str
    metrics: tuple[str, ...] = METRICS
    version: int = 2
    view: View = "image"
    descriptions: str | None = None
    max_tokens: int = 1024
    temperature: float | None = 0.0
    at_once: int = PAIRS_AT_A_TIME

    def parts(self, pairs: str) -> dict[str, Any]:
        return {
            "code": CODE_VERSION,
            "pairs": file_digest(pairs),
            "teacher": self.teacher,
            "metrics": list(self.metrics),
            "version": self.version,
            "view": self.view,
            "descriptions": file_digest(self.descriptions) if self.descriptions else None,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }


def grade_pairs(pairs: str, images: str, output: str, teacher: Teacher, settings: GradeSettings) -> dict[str, Any]:
    """Write one row a pair and metric to `output`; returns how many came out with which status, and the cost.

    A second call asks only about rows that an answer may still be had for (empty, failed, without an image): refusals
    and answers without a number are final. What was answered before an error ends the call lies in the teacher's cache.
    """
    if not exists(pairs):
        raise VlfilterError(f"there is no list of pairs {pairs}: the sampling step writes one.")
    parts = settings.parts(pairs)
    known = finished(output, parts)
    if known is not None and not any(known["rows"].get(str(status)) for status in OPEN):
        return known
    chosen = read_pairs(pairs)
    earlier = _earlier(output, parts)
    done: dict[tuple[str, str], Grade] = dict(earlier)
    for questions in _questions(chosen, images, settings, skip=set(earlier)):
        requests = [request for _, _, request in questions if isinstance(request, Request)]
        answers = iter(teacher.ask_all(requests))
        for pair, metric, request in questions:
            done[pair.id, metric] = (
                read_grade(pair, metric, settings.version, next(answers)) if isinstance(request, Request) else request
            )
        counts = Counter(grade.status for grade in done.values())
        what = ", ".join(f"{n} {status}" for status, n in counts.items())
        log.info("graded %d of %d: %s", len(done), len(chosen) * len(settings.metrics), what)
    grades = [done[pair.id, metric] for pair in chosen for metric in settings.metrics]
    write_grades(output, grades)
    return write_receipt(output, parts, _summary(grades, len(chosen)))


def requests_for(pairs: str, images: str, output: str, settings: GradeSettings) -> Iterator[Request]:
    """What `grade_pairs` would ask now, for an estimate of the price; few images lie in memory at a time."""
    earlier = set(_earlier(output, settings.parts(pairs)))
    for questions in _questions(read_pairs(pairs), images, settings, skip=earlier):
        yield from (request for _, _, request in questions if isinstance(request, Request))


def _earlier(output: str, parts: dict[str, Any]) -> dict[tuple[str, str], Grade]:
    """The final rows of an earlier call with the same input."""
    if finished(output, parts) is None:
        return {}
    return {(grade.id, grade.metric): grade for grade in read_grades(output) if grade.status not in OPEN}


_Question = tuple[ChosenPair, str, Request | Grade]


def _questions(
    pairs: Sequence[ChosenPair], images: str, settings: GradeSettings, skip: set[tuple[str, str]]
) -> Iterator[list[_Question]]:
    """Pair, metric and what to ask (or the row, where nothing can be asked), some pairs at a time."""
    descriptions = _descriptions(settings)
    for start in range(0, len(pairs), settings.at_once):
        questions: list[_Question] = []
        for pair in pairs[start : start + settings.at_once]:
            metrics = [metric for metric in settings.metrics if (pair.id, metric) not in skip]
            if metrics:
                questions += _of_pair(pair, metrics, images, settings, descriptions)
        if questions:
            yield questions


def _of_pair(
    pair: ChosenPair, metrics: Sequence[str], images: str, settings: GradeSettings, descriptions: dict[str, str]
) -> Iterator[_Question]:
    """Image and description are looked up once for all metrics."""
    try:
        image = _image(pair, images) if settings.view == "image" else None
        description = descriptions.get(pair.id) or descriptions.get(pair.key)
        if image is None and not description:
            raise _NoQuestionError(GradeStatus.MISSING_DESCRIPTION, f"{settings.descriptions} does not describe it")
    except _NoQuestionError as problem:
        for metric in metrics:
            yield pair, metric, no_grade(pair, metric, settings.version, problem.status, problem.reason)
        return
    for metric in metrics:
        if image is not None:
            asked = image_question(pair.caption, metric, settings.version, image)
        else:
            asked = described_question(pair.caption, metric, settings.version, description or "")
        yield pair, metric, make_request(asked, metric, settings.max_tokens, settings.temperature)


class _NoQuestionError(Exception):
    def __init__(self, status: GradeStatus, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


def _image(pair: ChosenPair, images: str) -> Image:
    if not inside(pair.image):
        raise _NoQuestionError(GradeStatus.MISSING_IMAGE, f"the path {pair.image!r} leads out of the image folder")
    try:
        return Image(*for_teacher(read_bytes(join(images, pair.image))))
    except FileNotFoundError:
        raise _NoQuestionError(GradeStatus.MISSING_IMAGE, f"there is no {join(images, pair.image)}") from None
    except SampleError as error:
        raise _NoQuestionError(GradeStatus.MISSING_IMAGE, error.reason) from None


def _descriptions(settings: GradeSettings) -> dict[str, str]:
    if settings.view == "image":
        return {}
    if settings.descriptions is None:
        raise VlfilterError(
            "a teacher that sees captions only needs a description of every image: give a JSON object from a pair's id "
            "(or key) to text as `descriptions`, or let it see the images."
        )
    try:
        found = json.loads(read_bytes(settings.descriptions))
    except (FileNotFoundError, ValueError) as error:
        raise VlfilterError(f"the descriptions {settings.descriptions} cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise VlfilterError(f"{settings.descriptions} is not a JSON object from a pair's id or key to text.")
    return found


def _summary(grades: Sequence[Grade], pairs: int) -> dict[str, Any]:
    counts = Counter(grade.status for grade in grades)
    reasons = Counter(grade.reason for grade in grades if grade.status != GradeStatus.OK)
    return {
        "pairs": pairs,
        "rows": {str(status): counts[str(status)] for status in GradeStatus if counts[str(status)]},
        "reasons": [{"reason": reason, "rows": rows} for reason, rows in reasons.most_common(20)],
        "input_tokens": sum(grade.input_tokens for grade in grades),
        "output_tokens": sum(grade.output_tokens for grade in grades),
        "usd": round(sum(grade.usd for grade in grades), 6),
    }
