"""Verification: whether generated questions are right, need their image, and are new. Each finding is a column.

Not in the published engine, whose generator never saw an image and whose questions nobody checked.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlfilter.data.aokvqa import BadRow, VqaRow, read_rows, row_json, write_json
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.samples import SampleError
from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Outcome, Request
from vlfilter.methods.data_engine.asking import Account, Generator
from vlfilter.methods.data_engine.records import write_records
from vlfilter.methods.data_engine.verdicts import SCHEMA, ImageVerdict, TextVerdict, VerifyRules, record_of, why_not
from vlfilter.methods.data_engine.verify_images import copies, load, thumbnail_of
from vlfilter.methods.data_engine.verify_questions import Asked, ask_with_image, ask_without_image, choice_of
from vlfilter.methods.data_engine.verify_rules import duplicates, images_by_name, leaked, overlaps, repeats

CODE_VERSION = 2
ROWS_AT_A_TIME = 256  # whose images lie in memory together

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """`image_judge` and `text_judge` name the models (and servers) that answer, for the fingerprint.

    `images` is the folder of the rows' images, `evaluation` the file of the questions that the model is measured by,
    `evaluation_images` its images: with these, copies under other names are found too. `earlier` are the files of
    earlier rounds' kept rows. `similar` is the similarity from which on two texts are the same; `at_once` says how many
    rows' images lie in memory together, `labels` (round) go into the account, beside the step.
    """

    images: str
    image_judge: str | None = None
    text_judge: str | None = None
    evaluation: str | None = None
    evaluation_images: str | None = None
    earlier: tuple[str, ...] = ()
    rules: VerifyRules = field(default_factory=VerifyRules)
    similar: float = 0.8
    seed: int = 0
    max_tokens: int = 256
    at_once: int = ROWS_AT_A_TIME
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.6 <= self.similar <= 1:
            raise VlfilterError(f"the similarity is {self.similar}: give 0.6 to 1.")

    def parts(self, questions: str) -> dict[str, Any]:
        return {
            "code": CODE_VERSION,
            "questions": file_digest(questions),
            "images": self.images,
            "judges": [self.image_judge, self.text_judge],
            "evaluation": file_digest(self.evaluation) if self.evaluation else None,
            "evaluation_images": self.evaluation_images,
            "earlier": [[url, file_digest(url)] for url in self.earlier],
            "rules": self.rules.parts(),
            "similar": self.similar,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }


@dataclass(slots=True)
class _Found:
    """What the judges said of a row."""

    image_verdict: ImageVerdict = ImageVerdict.NOT_ASKED
    image_reason: str = ""
    image_choice: int | None = None
    text_verdict: TextVerdict = TextVerdict.NOT_ASKED
    text_reason: str = ""
    text_choices: tuple[int | None, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    thumbnail: bytes | None = None

    def add(self, answer: Answer) -> None:
        self.input_tokens += answer.usage.input_tokens
        self.output_tokens += answer.usage.output_tokens


def verify(
    questions: str,
    output: str,
    verdicts: str,
    settings: VerifySettings,
    image_judge: Generator | None = None,
    text_judge: Generator | None = None,
) -> dict[str, Any]:
    """Write the rows that the rules keep to `output` (as they were) and one row for each to the table `verdicts`.

    A judge that is None is not asked, and its column says so. Rows that a judge failed to answer are asked again by the
    next call, the others are in its cache. Returns counts.
    """
    parts = settings.parts(questions)
    known = finished(output, parts)
    if known is not None and exists(verdicts) and not known["open"]:
        return known
    rows, bad = read_rows(questions)
    account = Account()
    found = [_Found() for _ in rows]
    for start in range(0, len(rows), settings.at_once):
        chunk = slice(start, start + settings.at_once)
        _ask(rows[chunk], found[chunk], settings, image_judge, text_judge, account)
        log.info("verified %d of %d, $%.4f", min(start + settings.at_once, len(rows)), len(rows), account.usd)
    records = _records(rows, bad, found, settings)
    kept = {record["row"] for record in records if record["kept"]}
    write_records(verdicts, records, SCHEMA)
    write_json(output, [row_json(row) for number, row in zip(_numbers(rows, bad), rows, strict=True) if number in kept])
    return write_receipt(output, parts, _summary(records)) | account.told()


def requests_for(questions: str, settings: VerifySettings) -> tuple[Iterator[Request], Iterator[Request]]:
    """What the judge with the image and the one without it would be asked, for estimates of the price."""
    rows, _ = read_rows(questions)
    text = (
        ask_without_image(row, settings.seed, turn, settings.max_tokens, settings.labels).request
        for row in rows
        for turn in (1, 2)
    )
    return _image_requests(rows, settings), text


def _image_requests(rows: Sequence[VqaRow], settings: VerifySettings) -> Iterator[Request]:
    for row in rows:
        try:
            image = load(row, settings.images)
        except SampleError:
            continue
        yield ask_with_image(row, image, settings.seed, settings.max_tokens, settings.labels).request


def _numbers(rows: Sequence[VqaRow], bad: Sequence[BadRow]) -> list[int]:
    """The places in the file of the rows that can be used."""
    broken = {one.number for one in bad}
    return [number for number in range(len(rows) + len(bad)) if number not in broken]


def _numbered(url: str) -> list[tuple[int, VqaRow]]:
    """The rows of a file that can be used, with their places in it."""
    rows, bad = read_rows(url)
    return list(zip(_numbers(rows, bad), rows, strict=True))


def _ask(
    rows: Sequence[VqaRow],
    found: Sequence[_Found],
    settings: VerifySettings,
    image_judge: Generator | None,
    text_judge: Generator | None,
    account: Account,
) -> None:
    with_image: list[tuple[_Found, VqaRow, Asked]] = []
    looked_at = zip(rows, found, strict=True) if image_judge is not None or settings.evaluation_images else ()
    for row, one in looked_at:
        try:
            image = load(row, settings.images)
        except SampleError as error:
            if image_judge is not None:
                one.image_verdict, one.image_reason = ImageVerdict.NO_IMAGE, error.reason
            continue
        if settings.evaluation_images is not None:
            one.thumbnail = thumbnail_of(image)
        with_image.append((one, row, ask_with_image(row, image, settings.seed, settings.max_tokens, settings.labels)))
    if image_judge is not None:
        answers = image_judge.ask_all([asked.request for _, _, asked in with_image])
        for (one, row, asked), answer in zip(with_image, answers, strict=True):
            account.add(answer)
            one.add(answer)
            _note_image(one, row, asked, answer)
    if text_judge is not None:
        turns = [
            ask_without_image(row, settings.seed, turn, settings.max_tokens, settings.labels)
            for row in rows
            for turn in (1, 2)
        ]
        said = text_judge.ask_all([asked.request for asked in turns])
        for place, (row, one) in enumerate(zip(rows, found, strict=True)):
            pair = slice(2 * place, 2 * place + 2)
            for answer in said[pair]:
                account.add(answer)
                one.add(answer)
            _note_text(one, row, turns[pair], said[pair])


def _note_image(one: _Found, row: VqaRow, asked: Asked, answer: Answer) -> None:
    one.image_choice = choice_of(asked, answer)
    if answer.outcome != Outcome.ANSWERED:
        one.image_verdict, one.image_reason = ImageVerdict(str(answer.outcome)), answer.reason
    elif one.image_choice is None:
        one.image_verdict, one.image_reason = ImageVerdict.UNSURE, "the judge cannot decide it by the image"
    elif one.image_choice == row.correct_choice_idx:
        one.image_verdict = ImageVerdict.AGREES
    else:
        one.image_verdict = ImageVerdict.DISAGREES
        one.image_reason = f"the judge takes {row.choices[one.image_choice]!r}, not {row.correct_choice!r}"


def _note_text(one: _Found, row: VqaRow, asked: Sequence[Asked], answers: Sequence[Answer]) -> None:
    one.text_choices = tuple(choice_of(each, answer) for each, answer in zip(asked, answers, strict=True))
    problem = next((answer for answer in answers if answer.outcome != Outcome.ANSWERED), None)
    right = sum(choice == row.correct_choice_idx for choice in one.text_choices)
    if problem is not None:
        one.text_verdict, one.text_reason = TextVerdict(str(problem.outcome)), problem.reason
    elif right == len(answers):
        one.text_verdict = TextVerdict.ANSWERED
        one.text_reason = "without the image the judge is right in both orders of the choices"
    else:
        one.text_verdict = TextVerdict.NOT_ANSWERED


def _records(
    rows: Sequence[VqaRow], bad: Sequence[BadRow], found: Sequence[_Found], settings: VerifySettings
) -> list[dict[str, Any]]:
    """A record of every row of the file, in its order."""
    evaluation = read_rows(settings.evaluation)[0] if settings.evaluation else []
    same_image = images_by_name(rows, evaluation)
    if settings.evaluation_images is not None:
        thumbnails = [one.thumbnail for one in found]
        same_image = copies(thumbnails, evaluation, settings.evaluation_images) | same_image
    shared = overlaps(rows, evaluation, settings.similar, same_image)
    doubles = duplicates(rows, settings.similar)
    earlier = [(url, number, row) for url in settings.earlier for number, row in _numbered(url)]
    again = repeats(rows, [row for _, _, row in earlier], settings.similar)
    numbers = _numbers(rows, bad)
    records = []
    for place, (row, one) in enumerate(zip(rows, found, strict=True)):
        double, overlap, repeat = doubles.get(place), shared[place], again[place]
        before = earlier[repeat.match.place] if repeat.match else None
        near = overlap.whole or overlap.question
        like = overlap.image if overlap.image is not None else near.place if near else None
        record = record_of(numbers[place], row) | {
            "image_verdict": str(one.image_verdict),
            "image_reason": one.image_reason,
            "image_choice": one.image_choice,
            "text_verdict": str(one.text_verdict),
            "text_reason": one.text_reason,
            "text_choices": list(one.text_choices),
            "duplicate_of": numbers[double.place] if double else None,
            "duplicate_similarity": double.similarity if double else None,
            "earlier_verdict": repeat.verdict if settings.earlier else "not_asked",
            "earlier_file": before[0] if before else None,
            "earlier_row": before[1] if before else None,
            "earlier_similarity": repeat.match.similarity if repeat.match else None,
            "overlap_verdict": overlap.verdict if settings.evaluation else "not_asked",
            "overlap_question_id": evaluation[like].question_id if like is not None else None,
            "overlap_similarity": near.similarity if near else None,
            "leak_reason": leaked(row),
            "input_tokens": one.input_tokens,
            "output_tokens": one.output_tokens,
        }
        reasons = why_not(record, settings.rules)
        records.append(record | {"kept": not reasons, "status": reasons[0][0] if reasons else "ok",
                                 "reason": "; ".join(reason for _, reason in reasons)})  # fmt: skip
    records += [record_of(one.number, None) | {"kept": False, "status": "bad_row", "reason": one.reason} for one in bad]
    return sorted(records, key=lambda record: record["row"])


def _summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of every verdict; `open` are rows of which a judge may still say something."""
    told = {
        name: dict(
            sorted(Counter(str(record.get(name)) for record in records if record["status"] != "bad_row").items())
        )
        for name in ("image_verdict", "text_verdict", "overlap_verdict", "earlier_verdict")
    }
    unanswered = (str(Outcome.EMPTY), str(Outcome.FAILED))
    return {
        "rows": len(records),
        "kept": sum(record["kept"] for record in records),
        "dropped": dict(sorted(Counter(record["status"] for record in records if not record["kept"]).items())),
        **told,
        "duplicates": sum(record.get("duplicate_of") is not None for record in records),
        "leaks": sum(bool(record.get("leak_reason")) for record in records),
        "open": sum(
            record.get("image_verdict") in unanswered or record.get("text_verdict") in unanswered for record in records
        ),
        "kept_by_type": dict(
            sorted(Counter(str(record["question_type"]) for record in records if record["kept"]).items())
        ),
        "input_tokens": sum(record.get("input_tokens") or 0 for record in records),
        "output_tokens": sum(record.get("output_tokens") or 0 for record in records),
    }
