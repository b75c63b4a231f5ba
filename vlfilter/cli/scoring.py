"""`vlfilter score` and `vlfilter status`: the flow with a bar in the terminal, and what its output looks like."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vlfilter.data.storage import check_writable
from vlfilter.errors import VlfilterError
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run, record_run
from vlfilter.scoring.progress import BOARD, followed
from vlfilter.scoring.progress import Progress as BoardProgress
from vlfilter.scoring.status import ScorerStatus, plan_status, read_status

MOST = 20  # open shards that are listed one by one
console = Console()


def parse_params(fields: dict[str, Any]) -> ScoreParams:
    try:
        return ScoreParams.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        raise VlfilterError(f"{name}: {first['msg']} (given: {first['input']!r}).") from None


def run_score(fields: dict[str, Any]) -> None:
    """Exit code 1 when a shard has no table in the end, 130 when the run was stopped."""
    params = parse_params(fields)
    found = plan_run(params)
    todo = found.work
    if todo and params.device.startswith("cuda"):
        from vlfilter.models.device import resolve_device

        resolve_device(params.device)
    if todo:
        params.check_servers()
    check_writable(params.output)
    console.print(f"{len(found.shards)} shards, {len(todo)} to score with {' and '.join(params.scorer)}.", markup=False)
    message = ""
    if todo:
        message = run_flow(params)
        found = plan_run(params)
    else:  # nothing to run: no server is started for it
        record_run(params, len(found.shards))
    show(plan_status(found, params.output))
    if found.work:
        console.print(message, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def run_flow(params: ScoreParams) -> str:
    """The flow in this process, against the server in PREFECT_API_URL or one that Prefect starts for the time.

    Returns how it ended. Ctrl-C stops the shards in flight where they are, and raises `typer.Exit`.
    """
    from vlfilter.cli.prefect import check_server, quiet_prefect, start_server

    quiet_prefect()
    with console.status("starting Prefect …"):
        from flows.score_shards import score_shards

        check_server()
        start_server()
    before = signal.signal(signal.SIGINT, stop_on_interrupt)
    try:
        with terminal_bar():
            state = score_shards(params, return_state=True)
    except KeyboardInterrupt:
        now = BOARD.read()
        console.print(f"stopped: {now.shards_done} of {now.shards_total} shards were scored; the same command goes on.")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)
    return state.message or ""


def stop_on_interrupt(_signal: int, _frame: object) -> None:
    """Ctrl-C: shards in flight end where they are."""
    if not BOARD.stopping:  # a second Ctrl-C changes nothing: the first is being carried out
        BOARD.stop()
        raise KeyboardInterrupt


@contextmanager
def terminal_bar(waiting: str = "starting") -> Iterator[None]:
    """A bar that follows the board: shards, samples/s, samples without a score, time left.

    `waiting` stands there until there are shards to score.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    BOARD.start(0, 0)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(waiting, total=None, detail="")

        def update(now: BoardProgress) -> None:
            if not now.shards_total:
                return
            broken = f" ({now.shards_failed} failed)" if now.shards_failed else ""
            detail = (
                f"{now.shards_done}/{now.shards_total} shards{broken}, {now.samples} samples, "
                f"{now.samples_per_second():.0f}/s, {now.failed} without score"
            )
            bar.update(task, description="scoring", total=1.0, completed=now.fraction, detail=detail)

        with followed(update, every=0.2):
            yield


def show_status(output: str) -> int:
    """Exit code 0 when everything is done, 1 otherwise."""
    statuses = read_status(output)
    show(statuses)
    return int(any(status.open() for status in statuses))


def show(statuses: list[ScorerStatus]) -> None:
    table = Table("scorer", "shards", "samples", "with a score", "without")
    for status in statuses:
        rows = status.rows()
        without = ", ".join(f"{n} {name}" for name, n in rows.items() if name != "ok") or "–"
        shards = ", ".join(f"{n} {name}" for name, n in status.counts.items() if n) or "none"
        table.add_row(status.scorer, shards, str(sum(rows.values())), str(rows.get("ok", 0)), without)
    console.print(table)
    for status in statuses:
        if status.note:
            console.print(f"{status.scorer}: {status.note}", markup=False, highlight=False, soft_wrap=True)
        still_open = status.open()
        for shard, state, why in still_open[:MOST]:
            console.print(
                f"{status.scorer} {shard}: {state}{': ' + why if why else ''}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if len(still_open) > MOST:
            console.print(f"… and {len(still_open) - MOST} more shards")
        for table_state in status.states:
            for warning in table_state.footer.warnings if table_state.footer else ():
                console.print(
                    f"{status.scorer} {table_state.shard.name}: {warning}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )


logging.getLogger("vlfilter").addHandler(logging.NullHandler())
