"""`vlfilter datasets …`: a training mixture's data sets, looked at before a GPU is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlfilter.training.mixture_check import DatasetState

app = typer.Typer(no_args_is_help=True, help="Look at a training mixture's data sets.")

Mixture = Annotated[
    str, typer.Argument(help="A YAML file, minigpt_v2_dataengine or minigpt_v2_baseline.", metavar="CONFIG")
]
Data = Annotated[
    str | None, typer.Option(help="The folder that its relative paths start from; else the file's.", metavar="DIR")
]


@app.command()
def check(
    config: Mixture,
    data: Data = None,
    samples: Annotated[int, typer.Option(help="Rows of each data set to read with their image.", min=0)] = 3,
    show: Annotated[bool, typer.Option("--show", help="Print those rows.")] = False,
    bad_rows: Annotated[float, typer.Option(help="Fraction of rows that may be unusable.", min=0, max=1)] = 0.01,
    seed: Annotated[int, typer.Option(help="Of wordings and answers, as the training's.")] = 42,
) -> None:
    """Say what is there, what is missing and where it should be; exit code 1 unless all data sets are ready."""
    from vlfilter.cli.scoring import console
    from vlfilter.methods.minigpt_v2.mixtures import open_mixture
    from vlfilter.training.mixture_check import look_at

    mixture = open_mixture(config, data)
    states: list[DatasetState] = []
    with console.status("reading …") as status:
        for state in look_at(mixture, seed, samples, bad_rows):
            states.append(state)
            status.update(f"{len(states)} of {len(mixture.datasets)} data sets are read …")
    _table(states)
    for state in states:
        for problem in state.problems:
            typer.echo(f"{state.name}: {problem}")
    if show:
        _samples(states)
    ready = sum(state.ready for state in states)
    typer.echo(f"{ready} of {len(states)} data sets are ready")
    if ready < len(states):
        raise typer.Exit(1)


@app.command()
def write(
    config: Mixture,
    output: Annotated[str, typer.Argument(help="The YAML file to write.", metavar="FILE")],
    data: Data = None,
) -> None:
    """Write a mixture as a file of your own, with absolute paths: to add data sets or take some away."""
    from vlfilter.methods.minigpt_v2.mixtures import place_mixture

    placed = place_mixture(config, data, output)
    typer.echo(f"{output} has {len(placed.datasets)} data sets")


def _table(states: Sequence[DatasetState]) -> None:
    from rich.table import Column, Table

    from vlfilter.cli.scoring import console

    counts = ("rows", "left out", "unusable", "images", "missing")
    table = Table(Column("data set", overflow="fold"), Column("schema", overflow="fold"), *counts, "state", box=None)
    for state in states:
        told = state.to_json()
        values = (str(told[name]) for name in counts)
        table.add_row(state.name, state.kind, *values, "ready" if state.ready else "NOT READY")
    console.print(table)


def _samples(states: Sequence[DatasetState]) -> None:
    for state in states:
        for look in state.looks:
            image = f" [{look.image}]" if look.image else ""
            typer.echo(f"{state.name} {look.id}{image}\n  {look.question!r}\n  {look.answer!r}")
        for reason, count in state.filtered.items():
            typer.echo(f"{state.name}: {count} rows are left out: {reason}")
