"""`vlfilter data-engine run`: the data engine's flow in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vlfilter.cli.mlm_filter_run import Flow


def run(
    config: Annotated[str, typer.Option(help="A YAML file: output, questions, images, query, …", metavar="FILE")],
) -> None:
    """Run the rounds that a YAML file describes; what is done already is not done, asked or paid again."""
    from vlfilter.cli.mlm_filter_run import read_config, run_flow
    from vlfilter.data.storage import check_writable
    from vlfilter.methods.data_engine.params import parse_params
    from vlfilter.methods.data_engine.preflight import check_inputs

    params = parse_params(read_config(config), config)
    check_inputs(params)
    check_writable(params.output)

    def load() -> Flow:
        from flows.data_engine import data_engine

        return data_engine

    run_flow(load, params, scoring=False)
