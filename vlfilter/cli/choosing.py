"""`vlfilter select`, `reshard` and `explain`."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from vlfilter.errors import VlfilterError

console = Console()


def run_select(
    scores: str,
    output: str,
    where: str | None,
    top: str | None,
    by: str | None,
    recipe: str | None,
    allow_incomplete: bool,
) -> None:
    from vlfilter.selection.recipes import recipe as find_recipe
    from vlfilter.selection.select import select

    if recipe is not None:
        if any(given is not None for given in (where, top, by)):
            raise VlfilterError("--recipe says what to keep: give it without --where, --top and --by.")
        where = find_recipe(recipe).where
    for line in select(scores, output, where=where, top=top, by=by, allow_incomplete=allow_incomplete).lines():
        typer.echo(line)
    typer.echo(f"wrote {output}")


def run_reshard(shards: list[str], subset: str, output: str, samples_per_shard: int, workers: int) -> None:
    """Exit code 1 when something of the subset could not be written."""
    from vlfilter.data.reshard import reshard
    from vlfilter.data.shards import list_shards

    listed = list_shards(shards)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task(f"reading {len(listed)} shards …")
        summary = reshard(
            listed,
            subset,
            output,
            samples_per_shard=samples_per_shard,
            workers=workers,
            on_progress=lambda read, written: bar.update(task, description=f"{read} samples read, {written} written"),
        )
    typer.echo(
        f"wrote {summary.written} of {summary.read} samples of {summary.shards} shards "
        f"into {summary.tars} tars ({summary.bytes / 1e6:.1f} MB) below {output}"
    )
    for warning in (*summary.unreadable, *summary.warnings):
        typer.echo(warning, err=True)
    if summary.skipped:
        typer.echo(
            f"{summary.skipped} samples of the subset cannot be read (see their reasons in the score tables)", err=True
        )
    if summary.missing:
        examples = ", ".join(summary.missing_examples)
        typer.echo(f"{summary.missing} entries of the subset were not found in these shards: {examples} …", err=True)
    if summary.missing or summary.skipped or summary.unreadable:
        raise typer.Exit(1)


def show_explanation(key: str, scores: str, where: str | None) -> None:
    from vlfilter.report.explain import explain

    for line in explain(key, scores, where=where).lines():
        typer.echo(line)
