"""The options of the data engine's commands that ask a judge, and how they ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vlfilter.llm.client import Judge
    from vlfilter.llm.form import AskStep
    from vlfilter.llm.types import Request

BaseUrl = Annotated[str | None, typer.Option(help="A server that speaks the vendor's API.", metavar="URL")]
Cache = Annotated[str | None, typer.Option(help="Where answers are kept; else beside --output.", metavar="URL")]
MaxUsd = Annotated[float | None, typer.Option(help="Hard limit on all that the cache's ledger records.")]
Concurrency = Annotated[int, typer.Option(help="Requests under way at a time.")]
Limit = Annotated[int | None, typer.Option(help="Limit.")]
Batch = Annotated[bool, typer.Option("--batch", help="The vendor's batch endpoint: half price, in a day.")]
TimeoutS = Annotated[float, typer.Option(help="Seconds for one attempt.")]
Usd = Annotated[float | None, typer.Option(help="For a model of unknown price.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell the price, ask nothing.")]
MaxTokens = Annotated[int, typer.Option(help="Longest answer; 800 as published.")]
Temperature = Annotated[float, typer.Option(help="0.7 as published.")]
TopP = Annotated[float, typer.Option(help="0.9 as published.")]
Published = Annotated[
    bool, typer.Option("--published-payload", help="Send the scripts' further parameters too, logit_bias among them.")
]


def asker(
    output: str,
    base_url: str | None,
    cache: str | None,
    max_usd: float | None,
    concurrency: int,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    batch: bool,
    timeout_s: float,
    input_usd_per_million: float | None,
    output_usd_per_million: float | None,
) -> AskStep:
    """Within which limits a judge is asked; answers lie beside `output` unless `cache` says otherwise.

    Raises `VlfilterError` for a limit out of range.
    """
    from vlfilter.forms import parse_form
    from vlfilter.llm.form import AskStep

    folder, slash, _ = output.rpartition("/")
    given = {
        "base_url": base_url,
        "cache": cache or f"{folder}{slash}answers",
        "max_usd": max_usd,
        "concurrency": concurrency,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "batch": batch,
        "timeout_s": timeout_s,
        "input_usd_per_million": input_usd_per_million,
        "output_usd_per_million": output_usd_per_million,
    }
    return parse_form(AskStep, given, "the options")


def estimate(server: AskStep, model: str, requests: Iterable[Request]) -> None:
    """Tell what asking would take; nothing is asked, no key is needed."""
    from vlfilter.llm.client import Judge

    with Judge(server.asking(model, "")) as judge:
        counted = judge.estimate(requests)
    typer.echo(f"{model}: {counted}")
    if server.max_usd is not None and counted.usd_most is not None and counted.usd_most > server.max_usd:
        typer.echo(
            f"at worst that is more than --max-usd {server.max_usd:g}: the run would stop there, and go on when raised."
        )


def ask(server: AskStep, model: str, work: Callable[[Judge], dict[str, Any]]) -> dict[str, Any]:
    """What a step tells of its work with a judge. Ctrl-C ends with exit code 130; what was answered is kept."""
    from vlfilter.llm.client import Judge

    with Judge(server.asking(model, "")) as judge:
        return interruptible(lambda: work(judge))


def interruptible(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from vlfilter.cli.mlm_filter_run import log_lines

    try:
        with log_lines():
            return work()
    except KeyboardInterrupt:
        typer.echo("stopped: what was answered is kept, and the same command goes on.")
        raise typer.Exit(130) from None


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def paid(told: dict[str, Any]) -> str:
    if "asked" not in told:
        return "nothing was to be done"
    return f"asked {told['asked']}, of which {told['cached']} answered already; paid ${told['usd']:.4f}"


def reasons(told: dict[str, Any]) -> None:
    for entry in told["reasons"]:
        typer.echo(f"  {entry['rows']}: {entry['reason'] or 'no reason told'}", err=True)
