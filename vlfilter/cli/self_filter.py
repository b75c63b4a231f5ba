"""`vlfilter self-filter …`: each step of Self-Filter alone, from files, and the whole; a module a command."""

from __future__ import annotations

import typer

from vlfilter.cli.self_filter_difficulty import difficulty
from vlfilter.cli.self_filter_features import features, preprocess
from vlfilter.cli.self_filter_judge import judge
from vlfilter.cli.self_filter_reward import image_reward
from vlfilter.cli.self_filter_run import run, stage1, tune
from vlfilter.cli.self_filter_select import select

app = typer.Typer(no_args_is_help=True, help="Let a vision-language model choose its own instructions: Self-Filter.")


@app.callback()
def _self_filter() -> None:
    """Let a vision-language model choose its own instructions: Self-Filter."""


app.command()(preprocess)
app.command()(features)
app.command()(image_reward)
app.command()(judge)
app.command()(stage1)
app.command()(difficulty)
app.command()(select)
app.command()(tune)
app.command()(run)
