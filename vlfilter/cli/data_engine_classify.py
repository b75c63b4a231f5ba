"""`vlfilter data-engine classify`: the pre-step."""

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


def classify(
    questions: Annotated[str, typer.Option("--input", "-i", help="A-OKVQA's aokvqa_v1p0_val.json.", metavar="FILE")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The typed questions; tables lie beside.", metavar="FILE")
    ],
    images: Annotated[
        str, typer.Option("--image", "-m", help="The folder that is written before the images' names.", metavar="DIR")
    ] = "",
    model: Annotated[str, typer.Option(help="openai:MODEL or anthropic:MODEL.", metavar="MODEL")] = "openai:gpt-4",
    group: Annotated[int, typer.Option(min=1, help="Questions in one prompt.")] = 50,
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
    """Let a judge say of every question which of the 18 types it is; a broken line costs that line only."""
    from vlfilter.methods.data_engine import classify as step
    from vlfilter.methods.data_engine.asking import Sampling

    server = asker(
        output, base_url, cache, max_usd, concurrency, requests_per_minute, tokens_per_minute, batch, timeout_s,
        input_usd_per_million, output_usd_per_million,
    )  # fmt: skip
    sampling = Sampling(max_tokens, temperature, top_p, published_extra=published)
    settings = step.ClassifySettings(server.name_of(model), images, step.group_sizes(group), sampling)
    if dry_run:
        estimate(server, model, step.requests_for(questions, settings))
        return
    told = ask(server, model, lambda judge: step.classify(questions, output, judge, settings))
    typer.echo(f"questions: {listed(told['rows'])}; {paid(told)}")
    typer.echo(f"types: {listed(told['types'])}")
    reasons(told)
    places = step.ClassifyPlaces.of(output)
    typer.echo(f"wrote {places.rows}, {places.by_type} and {places.table}")
