"""`vlfilter data-engine generate`: step 3."""

from __future__ import annotations

from typing import Annotated

import typer

from vlfilter.cli.data_engine_judge import (
    BaseUrl,
    Batch,
    Cache,
    Concurrency,
    DryRun,
    Limit,
    MaxTokens,
    MaxUsd,
    Published,
    Temperature,
    TimeoutS,
    TopP,
    Usd,
    ask,
    asker,
    estimate,
    listed,
    paid,
    reasons,
)


def generate(
    prompts: Annotated[str, typer.Option("--input", "-i", help="gptvqa_prompt.json, from `query`.", metavar="FILE")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="gptvqa_result.jsonl; a table lies beside it.", metavar="FILE")
    ],
    model: Annotated[str, typer.Option(help="openai:MODEL or anthropic:MODEL.", metavar="MODEL")] = "openai:gpt-4",
    max_usd: MaxUsd = None,
    dry_run: DryRun = False,
    base_url: BaseUrl = None,
    cache: Cache = None,
    batch: Batch = False,
    concurrency: Concurrency = 16,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    max_tokens: MaxTokens = 800,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    published: Published = False,
    timeout_s: TimeoutS = 120.0,
    input_usd_per_million: Usd = None,
    output_usd_per_million: Usd = None,
) -> None:
    """Let a generator answer every query; what was answered is not asked again, whatever ended the run."""
    from vlfilter.methods.data_engine import generate as step
    from vlfilter.methods.data_engine.asking import Sampling
    from vlfilter.methods.data_engine.generated import table_beside

    server = asker(
        output, base_url, cache, max_usd, concurrency, requests_per_minute, tokens_per_minute, batch, timeout_s,
        input_usd_per_million, output_usd_per_million,
    )  # fmt: skip
    sampling = Sampling(max_tokens, temperature, top_p, published_extra=published)
    settings = step.GenerateSettings(server.name_of(model), sampling)
    if dry_run:
        estimate(server, model, step.requests_for(prompts, output, settings))
        return
    told = ask(server, model, lambda judge: step.generate(prompts, output, judge, settings))
    cut = f", {told['truncated']} of them cut off" if told["truncated"] else ""
    typer.echo(f"queries: {listed(told['rows'])}{cut}; {paid(told)}")
    reasons(told)
    typer.echo(f"wrote {output} and {table_beside(output)}")
