"""`vlfilter data-engine verify`: judges and rules look at generated questions."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated

import typer

from vlfilter.cli.data_engine_judge import (
    BaseUrl,
    Batch,
    Cache,
    Concurrency,
    DryRun,
    Limit,
    MaxUsd,
    TimeoutS,
    Usd,
    asker,
    estimate,
    interruptible,
    listed,
    paid,
)
from vlfilter.errors import VlfilterError

BATCH_ROWS = 5_000  # a vendor's batch takes a day at worst: all that fits goes into few of them


class OverlapName(StrEnum):
    IMAGE_AND_QUESTION = "image_and_question"
    IMAGE = "image"
    QUESTION_AND_CHOICES = "question_and_choices"
    QUESTION = "question"
    NONE = "none"


def verify(
    questions: Annotated[str, typer.Option("--input", "-i", help="gptvqa_train_data.json.", metavar="FILE")],
    output: Annotated[str, typer.Option("--output", "-o", help="The questions that are kept.", metavar="FILE")],
    images: Annotated[str, typer.Option(help="The folder of their images.", metavar="DIR")],
    image_judge: Annotated[
        str | None, typer.Option(help="Answers with the image, blind to the answer; else nobody.", metavar="MODEL")
    ] = None,
    text_judge: Annotated[
        str | None, typer.Option(help="Must not be able to answer without it; else nobody.", metavar="MODEL")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(help="The questions that the model is measured by.", metavar="FILE")
    ] = None,
    evaluation_images: Annotated[
        str | None, typer.Option(help="Their images: copies under other names are found too.", metavar="DIR")
    ] = None,
    earlier: Annotated[
        list[str] | None,
        typer.Option(help="What an earlier round kept: doubles of it are found. Repeat it.", metavar="FILE"),
    ] = None,
    verdicts: Annotated[
        str | None, typer.Option(help="One row a question; else verdicts.parquet beside --output.", metavar="FILE")
    ] = None,
    overlap: Annotated[
        OverlapName, typer.Option(help="The mildest overlap with --evaluation that drops a question.")
    ] = OverlapName.QUESTION_AND_CHOICES,
    keep_unsure: Annotated[bool, typer.Option("--keep-unsure", help="… where the image does not decide it.")] = False,
    keep_text_answered: Annotated[bool, typer.Option("--keep-text-answered", help="… that need no image.")] = False,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="… like another one.")] = False,
    keep_leaks: Annotated[bool, typer.Option("--keep-leaks", help="… that hold their answer.")] = False,
    keep_unanswered: Annotated[bool, typer.Option("--keep-unanswered", help="… that a judge failed on.")] = False,
    similar: Annotated[float, typer.Option(help="Jaccard similarity from which on texts are the same.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Of the choices' order.")] = 0,
    max_usd: MaxUsd = None,
    dry_run: DryRun = False,
    base_url: BaseUrl = None,
    cache: Cache = None,
    batch: Batch = False,
    concurrency: Concurrency = 16,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer; more for models that think.")] = 256,
    timeout_s: TimeoutS = 120.0,
    input_usd_per_million: Usd = None,
    output_usd_per_million: Usd = None,
) -> None:
    """Check generated questions: right by the image, not answerable without it, new, and not giving themselves away."""
    from vlfilter.llm.client import Judge
    from vlfilter.methods.data_engine import verify as step
    from vlfilter.methods.data_engine.verdicts import VerifyRules

    server = asker(
        output, base_url, cache, max_usd, concurrency, requests_per_minute, tokens_per_minute, batch, timeout_s,
        input_usd_per_million, output_usd_per_million,
    )  # fmt: skip
    rules = VerifyRules(
        image_unsure=not keep_unsure,
        text_answered=not keep_text_answered,
        duplicate=not keep_duplicates,
        overlap=None if overlap is OverlapName.NONE else overlap.value,
        leak=not keep_leaks,
        keep_unanswered=keep_unanswered,
    )
    settings = step.VerifySettings(
        images,
        image_judge=server.name_of(image_judge) if image_judge else None,
        text_judge=server.name_of(text_judge) if text_judge else None,
        evaluation=evaluation,
        evaluation_images=evaluation_images,
        earlier=tuple(earlier or ()),
        rules=rules,
        similar=similar,
        seed=seed,
        max_tokens=max_tokens,
        at_once=BATCH_ROWS if batch else step.ROWS_AT_A_TIME,
    )
    if dry_run:
        if image_judge is None and text_judge is None:
            raise VlfilterError("without --image-judge and --text-judge nobody is asked, and nothing is paid.")
        for model, requests in zip((image_judge, text_judge), step.requests_for(questions, settings), strict=True):
            if model:
                estimate(server, model, requests)
        return
    folder, slash, _ = output.rpartition("/")
    table = verdicts or f"{folder}{slash}verdicts.parquet"
    with ExitStack() as stack:
        judges = [
            stack.enter_context(Judge(server.asking(one, ""))) if one else None for one in (image_judge, text_judge)
        ]
        told = interruptible(lambda: step.verify(questions, output, table, settings, *judges))
    typer.echo(f"kept {told['kept']} of {told['rows']}; dropped: {listed(told['dropped'])}; {paid(told)}")
    for name in ("image_verdict", "text_verdict", "overlap_verdict", "earlier_verdict"):
        typer.echo(f"{name.replace('_', ' ')}: {listed(told[name])}")
    typer.echo(f"duplicates: {told['duplicates']}, leaks: {told['leaks']}")
    if told["open"]:
        typer.echo(f"{told['open']} questions got no answer: the same command asks about them again.")
    typer.echo(f"wrote {output} and {table}")
