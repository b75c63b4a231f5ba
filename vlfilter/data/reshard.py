"""The kept samples of a subset → new tars, members copied byte for byte; resumable, the same for any worker count."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlfilter import __version__
from vlfilter.data.reshard_part import FOLDER, Ledger, Part, names_url, run_part
from vlfilter.data.shards import Shard
from vlfilter.data.storage import check_writable, filesystem, join, open_read, read_bytes, write_bytes
from vlfilter.data.subset import UID_DTYPE, Subset, read_subset
from vlfilter.errors import VlfilterError

EXAMPLES = 10

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReshardSummary:
    """What a reshard did, all runs on the same output together.

    `skipped` counts samples that the subset names but that cannot be read (cut short, duplicate keys, …); `missing`
    counts the different uids or keys of the subset that were not written, `missing_examples` names the first ones.
    `unreadable` says which shards are no tars, `warnings` what was odd about others. `seconds` is this run's.
    """

    shards: int
    read: int
    written: int
    skipped: int
    tars: int
    bytes: int
    missing: int
    missing_examples: tuple[str, ...]
    unreadable: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


def reshard(
    shards: Sequence[Shard],
    subset: str,
    output: str,
    *,
    samples_per_shard: int = 10_000,
    shards_per_part: int = 64,
    workers: int = 1,
    on_progress: Progress | None = None,
) -> ReshardSummary:
    """Copy the samples that the subset file names to `output/{part:05d}-{n:05d}.tar`.

    The shards are cut into parts of `shards_per_part`; each part writes tars of `samples_per_shard` samples on its
    own, so the result depends on neither `workers` (processes) nor interruptions. A sample that the subset names k
    times is written k times, the copies as `KEY-1`, … (DataComp counts uids the same way). Beside each tar lies
    DataComp's `_stats.json`, in the end a `meta.json`. A run that was stopped goes on after the last closed tar.
    `on_progress` gets the samples read and written so far. A shard that is no tar is left out and reported.

    Raises `VlfilterError` when the output cannot be used: not writable, holding the shards themselves, or a reshard
    of other shards, another subset or other settings; and when storage fails (run it again, it goes on).
    """
    if samples_per_shard < 1 or shards_per_part < 1:
        raise VlfilterError("samples_per_shard and shards_per_part should be 1 or more.")
    started = time.monotonic()
    kept = read_subset(subset)
    _check_place(shards, output)
    settings = {"samples_per_shard": samples_per_shard, "shards_per_part": shards_per_part}
    plan = {"subset": _digest(subset), "shards": _shards_digest(shards), "settings": settings}
    _claim(output, plan)
    parts = [
        Part(number, tuple(shards[start : start + shards_per_part]), subset, output, samples_per_shard)
        for number, start in enumerate(range(0, len(shards), shards_per_part))
    ]
    try:
        ledgers = _run(parts, workers, on_progress or _silent)
    except OSError as error:
        raise VlfilterError(f"resharding stopped: {error}. Run it again: it goes on where it stopped.") from error
    missing, examples = _missing(kept, output, ledgers)
    summary = ReshardSummary(
        shards=len(shards),
        read=sum(ledger.read for ledger in ledgers),
        written=sum(ledger.written for ledger in ledgers),
        skipped=sum(ledger.skipped for ledger in ledgers),
        tars=sum(len(ledger.tars) for ledger in ledgers),
        bytes=sum(size for ledger in ledgers for _, size in ledger.tars.values()),
        missing=missing,
        missing_examples=tuple(examples),
        unreadable=tuple(text for ledger in ledgers for text in ledger.unreadable),
        warnings=tuple(text for ledger in ledgers for text in ledger.warnings),
        seconds=time.monotonic() - started,
    )
    meta = {"version": __version__, "subset": subset, **plan, **asdict(summary)}
    meta["output_shards"] = [name for ledger in ledgers for name in ledger.tars]
    write_bytes(join(output, "meta.json"), json.dumps(meta, indent=1).encode())
    return summary


def _silent(read: int, written: int) -> None:
    pass


def _check_place(shards: Sequence[Shard], output: str) -> None:
    here = filesystem(output)[1] + "/"
    for shard in shards:
        if filesystem(shard.url)[1].startswith(here):
            raise VlfilterError(f"the shard {shard.url} lies in the output {output}: write the new tars elsewhere.")
    check_writable(output)


def _claim(output: str, plan: dict[str, Any]) -> None:
    """Write down what is made here, or check that it is what was begun before."""
    url = join(output, FOLDER, "reshard.json")
    try:
        before = json.loads(read_bytes(url))
    except FileNotFoundError:
        fs, path = filesystem(join(output, "meta.json"))
        if fs.exists(path):
            raise VlfilterError(f"{output} already holds a meta.json of something else: use another output.") from None
        write_bytes(url, json.dumps(plan, indent=1).encode())
        return
    except ValueError as error:
        raise VlfilterError(f"{url} is damaged ({error}): use another output.") from error
    if changed := [name for name in plan if before.get(name) != plan[name]]:
        raise VlfilterError(f"{output} holds a reshard with other {' and '.join(changed)}: use another output.")


def _shards_digest(shards: Sequence[Shard]) -> str:
    lines = "".join(json.dumps(asdict(shard), sort_keys=True) for shard in shards)
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(url: str) -> str:
    with open_read(url) as file:
        state = hashlib.sha256()
        while block := file.read(2**20):
            state.update(block)
        return state.hexdigest()


def _run(parts: Sequence[Part], workers: int, on_progress: Progress) -> list[Ledger]:
    total = [0, 0]

    def report(read: int, written: int) -> None:
        total[0] += read
        total[1] += written
        on_progress(total[0], total[1])

    if min(workers, len(parts)) <= 1:
        return [run_part(part, report) for part in parts]
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    with ProcessPoolExecutor(min(workers, len(parts)), context, _begin_worker, (reports,)) as pool:
        futures = [pool.submit(_run_in_worker, part) for part in parts]
        try:
            _follow(futures, reports, report)
            ledgers = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    on_progress(sum(ledger.read for ledger in ledgers), sum(ledger.written for ledger in ledgers))
    return ledgers


def _follow(futures: Sequence[Future[Ledger]], reports: Any, report: Progress) -> None:
    """Pass the workers' reports on until all parts are done or one has failed."""
    pending: set[Future[Ledger]] = set(futures)
    while pending:
        with contextlib.suppress(queue.Empty):
            report(*reports.get(timeout=0.1))
        done, pending = wait(pending, timeout=0)
        for future in done:
            future.result()


_reports: Any = None


def _begin_worker(reports: Any) -> None:
    """A worker does not outlive the process that started it, even one that was killed."""
    global _reports
    _reports = reports
    reports.cancel_join_thread()  # nobody may be listening any more when this process ends
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_in_worker(part: Part) -> Ledger:
    return run_part(part, lambda read, written: _reports.put((read, written)))


def _missing(kept: Subset, output: str, ledgers: Sequence[Ledger]) -> tuple[int, list[str]]:
    """How many different uids or keys of the subset were not written, and the first of them."""
    found = np.zeros(len(kept.packed), bool)
    if len(found):
        found[1:] = kept.packed[1:] == kept.packed[:-1]  # a repeated uid counts once
    others = dict.fromkeys(kept.names)
    for name in (name for ledger in ledgers for name in ledger.tars):
        text = read_bytes(names_url(output, name)).decode()
        if kept.by == "key":
            for key in text.split("\n"):
                others.pop(key, None)
        elif len(found):
            halves = np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)
            places = np.searchsorted(kept.packed, halves.view(UID_DTYPE))
            found[places[places < len(found)]] = True
    absent = np.flatnonzero(~found)
    examples = [f"{high:016x}{low:016x}" for high, low in kept.packed[absent[:EXAMPLES]].tolist()]
    return len(absent) + len(others), (examples + list(others))[:EXAMPLES]
