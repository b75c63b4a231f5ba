"""`vlfilter data-engine …`: find a model's weak spots and write training data for them."""

from __future__ import annotations

import typer

from vlfilter.cli.data_engine_classify import classify
from vlfilter.cli.data_engine_evaluate import evaluate
from vlfilter.cli.data_engine_generate import generate
from vlfilter.cli.data_engine_postprocess import postprocess
from vlfilter.cli.data_engine_query import index, query
from vlfilter.cli.data_engine_run import run
from vlfilter.cli.data_engine_verify import verify

app = typer.Typer(no_args_is_help=True, help="Find a model's weak spots and write data for them: MLLM-DataEngine.")


@app.callback()
def _data_engine() -> None:
    """Find a model's weak spots and write data for them: MLLM-DataEngine."""


for command in (classify, evaluate, index, query, generate, postprocess, verify, run):
    app.command()(command)
