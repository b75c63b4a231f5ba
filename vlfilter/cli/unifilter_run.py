"""UniFilter's flow in the terminal."""

from __future__ import annotations

from typing import Any

from vlfilter.cli.mlm_filter_run import Flow, run_flow
from vlfilter.data.storage import check_writable
from vlfilter.methods.unifilter.params import parse_params
from vlfilter.methods.unifilter.preflight import check_inputs


def run_steps(fields: Any, origin: str) -> None:
    """Run the flow. A step that fails ends it with one message, and leaves what was finished in its place."""
    params = parse_params(fields, origin)
    check_inputs(params)
    check_writable(params.output)

    def load() -> Flow:
        from flows.unifilter import unifilter

        return unifilter

    run_flow(load, params, scoring=params.score is not None and params.gpu_deployment is None)
