"""What people look at on a run's page: progress, a table of shards, a histogram of each score."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from vlfilter.data.states import State
from vlfilter.errors import VlfilterError
from vlfilter.report.plots import score_histograms
from vlfilter.scoring.progress import Progress, followed
from vlfilter.scoring.status import ScorerStatus

MAX_ROWS = 1000  # of a table artifact: the server keeps it in one database field
log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


def tolerant(make: Callable[P, R]) -> Callable[P, R | None]:
    """A picture that cannot be made or stored costs a warning, never the run."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return make(*args, **kwargs)
        except Exception as error:
            log.warning("no artifact: %s: %s", type(error).__name__, error)  # a thread has no run's logger
            return None

    return made


@contextmanager
def progress_artifact(every: float = 3.0) -> Iterator[None]:
    """A bar on the run's page that follows the board."""
    # Sync here; its type also tells of the async form.
    bar = cast(UUID | None, tolerant(create_progress_artifact)(0.0, key="score-shards-progress", description="scored"))

    def show(progress: Progress) -> None:
        if bar:
            tolerant(update_progress_artifact)(bar, 100 * progress.fraction, describe_progress(progress))

    with followed(show, every):
        yield


def describe_progress(progress: Progress) -> str:
    return (
        f"{progress.shards_done} of {progress.shards_total} shards, {progress.samples} samples, "
        f"{progress.failed} without a score, {progress.samples_per_second():.0f} samples/s"
    )


@tolerant
def shard_table(statuses: Sequence[ScorerStatus]) -> None:
    """One row a shard and scorer, the open ones first."""
    rows: list[dict[str, str]] = []
    for status in statuses:
        rows += [{"shard": name, "scorer": status.scorer, "state": s, "why": why} for name, s, why in status.open()]
    for status in statuses:
        for state in status.states:
            if state.state is State.DONE and state.footer:
                counts = ", ".join(f"{n} {name}" for name, n in state.footer.counts.items())
                rows.append({"shard": state.shard.name, "scorer": status.scorer, "state": "done", "why": counts})
    note = f" (the first {MAX_ROWS} of {len(rows)} rows)" if len(rows) > MAX_ROWS else ""
    total = sum(len(status.states) for status in statuses)
    done = sum(status.counts["done"] for status in statuses)
    description = f"{done} of {total} tables done{note}"
    create_table_artifact(rows[:MAX_ROWS], key="score-shards-shards", description=description)


@tolerant
def histograms(output: str) -> None:
    """The distribution of every score, as one picture; a run with failed shards may have none."""
    try:
        png = base64.b64encode(score_histograms(output)).decode()
    except VlfilterError as error:
        get_run_logger().warning("no histogram: %s", error)
        return
    create_image_artifact(
        f"data:image/png;base64,{png}", key="score-shards-histogram", description="How the scores are spread"
    )
