"""`vlfilter data-engine …`: find a model's weak spots and write training data for them."""

from __future__ import annotations

import typer

from vlfilter.cli.data_engine_query import index, query

app = typer.Typer(no_args_is_help=True, help="Find a model's weak spots and write data for them: MLLM-DataEngine.")


@app.callback()
def _data_engine() -> None:
    """Find a model's weak spots and write data for them: MLLM-DataEngine."""


app.command()(index)
app.command()(query)
