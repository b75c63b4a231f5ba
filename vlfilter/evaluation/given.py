"""Answers that exist already: the published scripts' result files, and files to hand in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlfilter.data.aokvqa import BadRow
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks.base import Benchmark, Reading
from vlfilter.evaluation.benchmarks.reading import as_number, read_json, read_rows
from vlfilter.evaluation.benchmarks.sheet import read_sheet

SHOWN = 5


def read_given(url: str, benchmark: Benchmark, reading: Reading, allow_missing: bool) -> dict[str, str]:
    """The texts of a file of answers by the questions' keys; with `allow_missing` there may be fewer than questions.

    Entries with ids are matched by them, entries without by their place. Raises `VlfilterError`, one message that says
    what does not fit: lines that cannot be read, ids unknown or twice, answers too many or too few.
    """
    entries = benchmark.given(_entries(url), reading.questions)
    if not entries:
        raise VlfilterError(f"{url} holds no answers to {benchmark.name} ({' or '.join(benchmark.text_names)}).")
    name = next((name for name in benchmark.id_names if name in entries[0]), None)
    texts = [_text(entry, benchmark, number, url) for number, entry in enumerate(entries)]
    if name is None:
        return _by_place(url, texts, reading, allow_missing)
    ids = [_id(entry, name, number, url) for number, entry in enumerate(entries)]
    known = [question.item.key for question in reading.questions]
    skipped = {bad.question_id for bad in reading.bad}
    _none_of([key for key, count in Counter(ids).items() if count > 1], f"{url} answers some questions twice")
    _none_of([key for key in ids if key not in {*known, *skipped}], f"{url} answers questions that are not asked")
    missing = [key for key in known if key not in set(ids)]
    if not allow_missing:
        _none_of(missing, _other_length(url, len(ids), len(known)), f" ({ALLOW})")
    return {key: text for key, text in zip(ids, texts, strict=True) if key in set(known)}


ALLOW = "with --allow-missing they count as wrong"


def _by_place(url: str, texts: Sequence[str], reading: Reading, allow_missing: bool) -> dict[str, str]:
    count = len({question.number for question in reading.questions}) + len(reading.bad)
    if len(texts) > count or (len(texts) < count and not allow_missing):
        hint = f"; {ALLOW}" if len(texts) < count else ""
        raise VlfilterError(f"{_other_length(url, len(texts), count)}: they have no ids, so their places count{hint}.")
    return {question.item.key: texts[question.number] for question in reading.questions if question.number < len(texts)}


def _other_length(url: str, answers: int, questions: int) -> str:
    return f"{url} holds {answers} answers to {questions} questions"


def _none_of(keys: Sequence[str], problem: str, more: str = "") -> None:
    if keys:
        shown = ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
        raise VlfilterError(f"{problem}: {len(keys)} of them, {shown}{more}.")


def _entries(url: str) -> list[Mapping[str, Any]]:
    try:
        if url.endswith(".xlsx"):
            return list(read_sheet(read_bytes(url), url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    if url.endswith(".json") and isinstance(found := read_json(url), dict):
        return [{"question_id": key, **_fields(value)} for key, value in found.items()]
    rows = read_rows(url)
    bad = next((row for row in rows if isinstance(row, BadRow)), None)
    if bad is not None:
        raise VlfilterError(f"{url} cannot be read as answers: entry {bad.number}: {bad.reason}.")
    return [row for row in rows if not isinstance(row, BadRow)]


def _fields(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {"answer": value}


def _text(entry: Mapping[str, Any], benchmark: Benchmark, number: int, url: str) -> str:
    name = next((name for name in benchmark.text_names if name in entry), None)
    text = None if name is None else entry[name]
    if not isinstance(text, str):
        problem = f"has no {' or '.join(benchmark.text_names)}" if text is None else f"{name} is not a text"
        raise VlfilterError(f"{url} cannot be read as answers: entry {number}: {problem}.")
    return text


def _id(entry: Mapping[str, Any], name: str, number: int, url: str) -> str:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise VlfilterError(f"{url} cannot be read as answers: entry {number}: it has no {name}.")
    return str(as_number(value))
