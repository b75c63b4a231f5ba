"""A benchmark's scores in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from vlfilter.cli.data_engine_judge import listed, reasons
from vlfilter.cli.scoring import console
from vlfilter.evaluation.published import NONE, comparison
from vlfilter.evaluation.summary import category_rows, summary_line


def show(told: Mapping[str, Any], folder: str) -> None:
    """Scores by category, the published ones, what is unanswered and why, and what lies in `folder`."""
    _table(category_rows(told), "category")
    beside = [{"model": line["model"], "accuracy": line[told["benchmark"]]} for line in comparison([told])]
    if any(line["accuracy"] != NONE for line in beside[:-2]):
        _table(beside, "model")
    typer.echo(summary_line(told))
    typer.echo(f"rows: {listed(dict(told['rows']))}")
    reasons(dict(told))
    typer.echo(f"wrote {', '.join([*told['files'], 'questions.parquet', 'scores.json'])} in {folder}")


def _table(rows: list[dict[str, str]], wide: str) -> None:
    table = Table(*(Column(name, overflow="fold" if name == wide else "ellipsis") for name in rows[0]), box=None)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console.print(table)
