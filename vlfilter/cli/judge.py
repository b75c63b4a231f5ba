"""`vlfilter judge`: one image and its caption through MLM-Filter, shown as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from vlfilter.data.fetch import FetchLimits, fetch
from vlfilter.data.images import decode_image
from vlfilter.data.samples import ImageText, SampleError
from vlfilter.errors import VlfilterError
from vlfilter.scoring.answers import rationale, read_score
from vlfilter.scoring.base import Prepared, ScorerSettings
from vlfilter.scoring.mlm_filter import MlmFilter

MAX_BYTES = FetchLimits().bytes_
console = Console()


@dataclass(frozen=True, slots=True)
class Question:
    """What the command was given; `options` are the scorer's own."""

    image: str
    caption: str
    model: str
    device: str = "auto"
    dtype: str = "auto"
    explain: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def run_judge(question: Question) -> None:
    """Exit code 1 when a metric has no score."""
    scorer = MlmFilter(ScorerSettings(question.model, question.device, question.dtype, options=question.options))
    if question.explain and scorer.options.backend != "transformers":
        raise VlfilterError("--explain needs the model in this process: leave out the option backend.")
    content = ImageText(read_image(question.image), question.caption)
    with console.status("loading the model …"):
        scorer.load()
    try:
        prepared = scorer.prepare(content)
    except SampleError as error:
        raise VlfilterError(f"{question.image}: {error.reason}.") from None
    row = {name: values[0] for name, values in scorer.score([prepared]).items()}
    reasons = _show(scorer, row)
    if row["truncated"]:
        console.print("The caption was cut: it is longer than the model may see.")
    if question.explain:
        _explain(scorer, prepared)
    if reasons:
        raise typer.Exit(1)


def read_image(source: str) -> Any:
    """An RGB image from a file, or from an http or https address. Raises `VlfilterError` when there is none."""
    try:
        return decode_image(fetch(source) if "://" in source else _read_file(Path(source).expanduser()))
    except SampleError as error:
        raise VlfilterError(f"{source}: {error.reason}.") from None


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise VlfilterError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > MAX_BYTES:
        raise VlfilterError(f"{path}: larger than {MAX_BYTES} bytes.")
    return data


def _show(scorer: MlmFilter, row: Mapping[str, Any]) -> list[str]:
    """The table, and below it the reasons of metrics without a score, which are returned."""
    number = "most likely" if scorer.answer == "expected" else "answered"
    table = Table("metric", "score", number, "entropy (nats)")
    reasons = []
    for metric in scorer.metrics:
        score, answer, spread = (row[f"{metric}_{part}"] for part in ("score", "answer", "entropy"))
        if isinstance(score, SampleError):
            reasons.append(score.reason)
            score = None
        texts = (f"{score:.1f}" if score is not None else None, answer, f"{spread:.2f}" if spread is not None else None)
        table.add_row(metric, *("–" if text is None else str(text) for text in texts))
    console.print(table)
    for reason in reasons:
        _say(reason)
    return reasons


def _explain(scorer: MlmFilter, prepared: Prepared) -> None:
    with console.status("writing …"):
        texts = scorer.write(prepared)
    for metric, text in zip(scorer.metrics, texts, strict=True):
        number = read_score(text)
        _say(f"\n{metric}: {'no number' if number is None else number}")
        _say(rationale(text) or "(the model wrote no reasons)")


def _say(text: str) -> None:
    """What a model or a server wrote is no markup, and no command to the terminal."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)
    console.print(shown, markup=False, highlight=False, soft_wrap=True)
