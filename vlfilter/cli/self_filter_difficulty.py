"""`vlfilter self-filter difficulty`."""

from __future__ import annotations

from typing import Annotated

import typer

Features = Annotated[
    str, typer.Option(help="features.npz (array `features`, row i for id i) or what `features` wrote.", metavar="PLACE")
]
Work = Annotated[
    str | None,
    typer.Option(help="Local folder for features that do not fit into memory; else the temporary one.", metavar="DIR"),
]


def difficulty(
    model: Annotated[str, typer.Option(help="What `stage1` wrote, or a published checkpoint.", metavar="NAME")],
    features: Features,
    output: Annotated[str, typer.Option(help="The .parquet file.", metavar="FILE")],
    work: Work = None,
) -> None:
    """How hard each sample is, from the score net alone; the language model is not loaded."""
    from vlfilter.methods.self_filter.difficulty import measure_difficulty

    for line in measure_difficulty(model, features, output, work).lines():
        typer.echo(line)
    typer.echo(f"wrote {output}")
