"""`vlfilter retry`: run again what an output lacks."""

from __future__ import annotations

from typing import Any

from vlfilter.cli.mlm_filter_run import run_flow
from vlfilter.cli.scoring import console, show
from vlfilter.data.storage import check_writable
from vlfilter.forms import parse_form
from vlfilter.scoring.retry import RetryParams, runs_to_repeat
from vlfilter.scoring.status import read_status


def run_retry(fields: dict[str, Any]) -> None:
    """Exit code 1 when a shard has no table in the end, 130 when the run was stopped."""
    params = parse_form(RetryParams, fields, "retry")
    runs_to_repeat(params)  # the user's mistakes, before anything is started
    statuses = [status for status in read_status(params.output) if status.scorer in (params.scorer or [status.scorer])]
    lacking = len({shard for status in statuses for shard, _, _ in status.open()})
    if not lacking and not params.asks_for_rows:
        console.print(f"{params.output} lacks nothing.", markup=False, highlight=False)
        return
    check_writable(params.output)
    console.print(f"{lacking} shards to score again.", markup=False)
    run_flow(_load, params, scoring=True)
    show(read_status(params.output))


def _load() -> Any:
    from flows.retry_failed_shards import retry_failed_shards

    return retry_failed_shards
