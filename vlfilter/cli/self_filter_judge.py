"""`vlfilter self-filter judge`: a judge's score of every instruction, or the scores in responses that are there."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vlfilter.llm.client import JudgeSettings
    from vlfilter.methods.self_filter.judging import JudgeSummary, JudgingSettings

Usd = Annotated[float | None, typer.Option(help="For a model of unknown price.")]


class ParserName(StrEnum):
    STRICT = "strict"
    ORIGINAL = "original"


def judge(
    data: Annotated[str, typer.Option(help="What `preprocess` wrote.", metavar="DIR")],
    output: Annotated[str, typer.Option(help="For the Parquet files.", metavar="DIR")],
    model: Annotated[
        str, typer.Option(help="A model of OpenAI's, or openai:MODEL, anthropic:MODEL.", metavar="MODEL")
    ] = "gpt-3.5-turbo-1106",
    parser: Annotated[
        ParserName, typer.Option(help="strict: the first number, 0 to 10. original: as the published script reads.")
    ] = ParserName.STRICT,
    max_usd: Annotated[float | None, typer.Option(help="Hard limit on what the judge may cost.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell the price, ask nothing.")] = False,
    responses: Annotated[
        str | None,
        typer.Option(help="Read the published script's responses (ID.json) instead of asking.", metavar="DIR"),
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="A server that speaks the vendor's API.", metavar="URL")] = None,
    cache: Annotated[
        str | None, typer.Option(help="Where answers are kept; else beside --output.", metavar="URL")
    ] = None,
    batch: Annotated[bool, typer.Option("--batch", help="The vendor's batch endpoint: half price, in a day.")] = False,
    concurrency: Annotated[int, typer.Option(help="Requests under way at a time.")] = 16,
    requests_per_minute: Annotated[int | None, typer.Option(help="Limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Limit.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer; the score comes first.")] = 10,
    temperature: Annotated[float, typer.Option(help="0 as published.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Sent to APIs that take one; 42 as published.")] = 42,
    timeout_s: Annotated[float, typer.Option(help="Seconds for one attempt.")] = 120.0,
    input_usd_per_million: Usd = None,
    output_usd_per_million: Usd = None,
) -> None:
    """Ask a judge to score each row's text from 0 to 10; what was answered is not asked again."""
    from vlfilter.methods.self_filter.judge_parsers import check_parser

    reader = check_parser(parser.value)
    if responses is not None:
        from vlfilter.methods.self_filter.responses import read_responses

        _show(read_responses(data, responses, output, reader, tell=typer.echo), output)
        return
    from vlfilter.llm.client import JudgeSettings
    from vlfilter.methods.self_filter.judging import BATCH_SHARDS, JudgingSettings

    name = model if ":" in model else f"openai:{model}"
    asker = JudgeSettings(
        name,
        base_url=base_url,
        cache=cache or f"{output.rstrip('/')}-answers",
        max_usd=max_usd,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrency=concurrency,
        timeout_s=timeout_s,
        batch=batch,
        input_usd_per_million=input_usd_per_million,
        output_usd_per_million=output_usd_per_million,
    )
    settings = JudgingSettings(
        name if base_url is None else f"{name} at {base_url}",
        reader,
        temperature,
        seed,
        max_tokens,
        BATCH_SHARDS if batch else 1,
    )
    _ask(data, output, asker, settings, dry_run)


def _ask(data: str, output: str, asker: JudgeSettings, settings: JudgingSettings, dry_run: bool) -> None:
    from vlfilter.llm.client import Judge
    from vlfilter.methods.self_filter.judging import judge_requests, judge_scores

    with Judge(asker) as judge:
        if not dry_run:
            try:
                _show(judge_scores(data, output, judge, settings, tell=typer.echo), output)
            except KeyboardInterrupt:
                typer.echo("stopped: what was answered is kept, and the same command goes on.")
                raise typer.Exit(130) from None
            return
        counted = judge.estimate(judge_requests(data, output, settings))
    typer.echo(str(counted))
    if asker.max_usd is not None and counted.usd_most is not None and counted.usd_most > asker.max_usd:
        typer.echo(
            f"at worst that is more than --max-usd {asker.max_usd:g}: the run would stop there, and go on later."
        )


def _show(done: JudgeSummary, output: str) -> None:
    typer.echo(f"rows: {', '.join(f'{count} {status}' for status, count in done.rows.items()) or 'none'}")
    for reason, count in done.reasons.items():
        typer.echo(f"  {count}: {reason}")
    typer.echo(f"asked {done.asked}, paid ${done.usd:.4f}")
    typer.echo(f"wrote {done.made} files below {output}, {done.kept} were there already")
