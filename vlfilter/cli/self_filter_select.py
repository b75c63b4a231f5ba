"""`vlfilter self-filter select`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vlfilter.cli.self_filter_difficulty import Features, Work


def select(
    features: Features,
    difficulty: Annotated[str, typer.Option(help="What `difficulty` wrote, or .json: id to number.", metavar="FILE")],
    output: Annotated[str, typer.Option(help="The .parquet file of the picks, in their order.", metavar="FILE")],
    budget: Annotated[
        str, typer.Option(help="Samples to pick: a number, a fraction (0.15) or 15%.", metavar="AMOUNT")
    ] = "25000",
    gamma: Annotated[float, typer.Option(help="How much a pick's neighbours are penalised; 0: not at all.")] = 1.0,
    neighbours: Annotated[int, typer.Option(help="How many of them.")] = 10,
    penalty: Annotated[
        Literal["literal", "offset_free"],
        typer.Option(help="literal: as published; offset_free: adding a constant to difficulties changes nothing."),
    ] = "literal",
    similarity: Annotated[
        Literal["torch32", "canonical"],
        typer.Option(help="torch32: float32 as published; canonical: float64, rounded, the same on every machine."),
    ] = "torch32",
    strict: Annotated[bool, typer.Option("--strict", help="Stop near the pool's end where the original does.")] = False,
    skip_hardest: Annotated[
        float, typer.Option(help="Share of the rows, the hardest, to leave out: where answers are wrong, try 0.3.")
    ] = 0.0,
    annotations: Annotated[
        str | None, typer.Option(help="The list that `preprocess` wrote, for --selected.", metavar="FILE")
    ] = None,
    selected: Annotated[
        str | None, typer.Option(help="The picks' entries as a LLaVA list, in their order.", metavar="FILE")
    ] = None,
    work: Work = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N: how fast it is; the picks are the same.")
    ] = "auto",
) -> None:
    """Choose hard and diverse samples; a selection that was stopped goes on where it was."""
    from vlfilter.methods.self_filter.selecting import SelectSettings, select_samples

    settings = SelectSettings(budget, gamma, neighbours, penalty, similarity, strict, skip_hardest)
    summary = select_samples(features, difficulty, output, settings, annotations, selected, work, device)
    for line in summary.lines():
        typer.echo(line)
    for line in summary.warnings():
        typer.echo(f"warning: {line}", err=True)
    typer.echo(f"wrote {output}" + (f" and {selected}" if selected else ""))
