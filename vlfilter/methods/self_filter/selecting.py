"""Stage 2, second half: choose hard and diverse samples, and write them as a LLaVA list in the order of the picks."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.features import Features, features_made_of, open_features
from vlfilter.data.json_lists import stream_list, whole_file
from vlfilter.data.receipts import file_digest, finished, write_receipt
from vlfilter.data.samples import Status
from vlfilter.data.shards import Shard
from vlfilter.data.storage import write_bytes
from vlfilter.data.tables import FOOTER_KEY, TAIL, Footer, digest, open_parquet, read_footer
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.budget import check_within, resolve_budget
from vlfilter.methods.self_filter.difficulty_files import read_difficulty
from vlfilter.selection.diverse import Difficulty, Penalty, Picks, select_diverse
from vlfilter.selection.diverse_similarity import Similarity
from vlfilter.selection.diverse_state import forget_state, read_state, saver

CODE = 1
LEFT_OUT = ".left_out.parquet"
REASONS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class SelectSettings:
    """`budget`: a number of samples, a fraction of the pool up to 1.0, or a percentage such as `15.85%`. The rest as
    `select_diverse` says."""

    budget: int | float | str = 25_000
    gamma: float = 1.0
    neighbours: int = 10
    penalty: Penalty = "literal"
    similarity: Similarity = "torch32"
    strict: bool = False
    skip_hardest: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.skip_hardest < 1:
            raise VlfilterError(f"skip_hardest {self.skip_hardest}: a share of the pool is from 0 to below 1.")


@dataclass(frozen=True, slots=True)
class SelectSummary:
    """`picks` of `pool` candidates; `left_out` rows by reason; lowest and median difficulty of the pool; how many picks
    had a negative difficulty when they were picked (`negative_picks`), how many a run that was stopped had picked
    (`resumed_from`), and whether the file was there already."""

    picks: int
    pool: int
    left_out: Mapping[str, int]
    lowest: float
    median: float
    negative_picks: int
    penalty: str
    resumed_from: int = 0
    kept: bool = False

    def lines(self) -> list[str]:
        there = f", {self.resumed_from:,} of them by the run that was stopped" if self.resumed_from else ""
        there = " (there already)" if self.kept else there
        rows = [
            f"picked {self.picks:,} of {self.pool:,} candidates{there}",
            f"difficulty: min {self.lowest:.6g}, median {self.median:.6g}; "
            f"{self.negative_picks:,} picks had a negative difficulty",
        ]
        most = sorted(self.left_out.items(), key=lambda item: -item[1])
        rows += [f"left out: {count:,} × {reason}" for reason, count in most[:REASONS_SHOWN]]
        if rest := most[REASONS_SHOWN:]:
            rows.append(f"left out: {sum(count for _, count in rest):,} for {len(rest):,} other reasons")
        return rows

    def warnings(self) -> list[str]:
        if not self.negative_picks or self.penalty != "literal":
            return []
        return [
            f"{self.negative_picks:,} of {self.picks:,} picks had a negative difficulty, so what resembles them was "
            "promoted, not penalised. The zero of the difficulty is arbitrary: consider --penalty offset_free."
        ]


def select_samples(
    features: str,
    difficulty: str,
    output: str,
    settings: SelectSettings,
    annotations: str | None = None,
    selected: str | None = None,
    work: str | None = None,
    device: str = "auto",
) -> SelectSummary:
    """Write `rank, id, difficulty, penalty` of every pick to `output` and, from the preprocessed `annotations`, the
    picks' entries to `selected`. What is there already and was made from the same is kept; a selection that was stopped
    goes on from `output`.state.npz. Rows that are no candidates are listed in `output`.left_out.parquet.
    `device` decides how fast it is (a GPU is the fastest), never what is picked.

    Raises `VlfilterError` for unusable files or settings, and when the pool is smaller than the budget.
    """
    if (annotations is None) != (selected is None):
        raise VlfilterError("--annotations and --selected go together: the list to choose from, and the one to write.")
    shared = asdict(settings) | {"features": features_made_of(features), "difficulty": file_digest(difficulty)}
    del shared["budget"]  # the picks of a smaller budget are the first of a larger one's
    parts = {"step": "select", **shared, "budget": str(settings.budget), "code": CODE}
    summary = _kept(output, parts)
    if summary is None:
        opened = open_features(features, work)
        pool, reasons = _pool(opened, difficulty)
        if not len(pool):
            raise VlfilterError(_no_pool(features, difficulty, opened, reasons))
        pool = _without_hardest(pool, settings.skip_hardest, reasons)
        budget = resolve_budget(settings.budget, len(pool))
        check_within(budget, len(pool))
        from vlfilter.models.device import resolve_device  # loads torch

        fingerprint = digest({"state": shared, "code": CODE})
        state = read_state(output, fingerprint)
        picks = select_diverse(
            opened,
            pool,
            budget,
            settings.gamma,
            settings.neighbours,
            settings.penalty,
            settings.similarity,
            strict=settings.strict,
            device=resolve_device(device),
            state=state,
            save=saver(output, fingerprint),
        )
        summary = _summary(picks, pool, reasons, settings, 0 if state is None else len(state.order))
        write_left_out(output + LEFT_OUT, reasons)
        _write_picks(output, picks, parts, summary)
        forget_state(output)
    if annotations is not None and selected is not None:
        write_selected(output, annotations, selected)
    return summary


def _pool(features: Features, url: str) -> tuple[Difficulty, dict[int, str]]:
    """The candidates, and why other rows are none."""
    read = read_difficulty(url)
    there = features.has(read.difficulty.ids)
    reasons = {int(i): f"no difficulty: {reason}" for i, reason in read.left_out}
    for i in read.difficulty.ids[~there].tolist():
        reasons[i] = f"no features: {features.reasons.get(i, 'no such row')}"
    for i in features.ids[~np.isin(features.ids, read.difficulty.ids)].tolist():
        reasons.setdefault(i, "no difficulty")
    return Difficulty(read.difficulty.ids[there], read.difficulty.values[there]), dict(sorted(reasons.items()))


def _without_hardest(pool: Difficulty, share: float, reasons: dict[int, str]) -> Difficulty:
    """The pool less its hardest share, ties in its order; adds why to `reasons`."""
    count = int(share * len(pool) + 1e-9)
    if not count:
        return pool
    hardest = np.argsort(-pool.values, kind="stable")[:count]
    reasons.update(dict.fromkeys(pool.ids[np.sort(hardest)].tolist(), f"among the hardest {share:.4g} of the pool"))
    kept = np.ones(len(pool), bool)
    kept[hardest] = False
    return Difficulty(pool.ids[kept], pool.values[kept])


def _no_pool(url: str, difficulty: str, features: Features, reasons: Mapping[int, str]) -> str:
    first = next((f"; id {i}: {reason}" for i, reason in reasons.items()), "")
    return (
        f"no id has both features and a difficulty: do {url} ({len(features):,} with features) and {difficulty} belong "
        f"together{first}?"
    )


def _summary(
    picks: Picks, pool: Difficulty, reasons: Mapping[int, str], settings: SelectSettings, resumed: int
) -> SelectSummary:
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    return SelectSummary(
        len(picks),
        len(pool),
        counts,
        float(pool.values.min()),
        float(np.median(pool.values)),
        int((picks.current < 0).sum()),
        settings.penalty,
        resumed,
    )


def _kept(output: str, parts: Mapping[str, Any]) -> SelectSummary | None:
    try:
        footer = read_footer(output)
        if footer.fingerprint != digest(parts):
            return None
        summary = footer.parts["summary"]
        return SelectSummary(**{**summary, "kept": True})
    except (FileNotFoundError, VlfilterError, KeyError, TypeError):
        return None


def _write_picks(output: str, picks: Picks, parts: Mapping[str, Any], summary: SelectSummary) -> None:
    table = pa.table(
        {
            "rank": np.arange(len(picks)),
            "id": picks.ids,
            "difficulty": picks.difficulty,
            "penalty": picks.penalty,
        }
    )
    said = {field.name: getattr(summary, field.name) for field in fields(summary) if field.name != "kept"}
    counts = {str(Status.OK): len(picks)}
    footer = Footer(Shard("picks", "", 0, ""), "picks", digest(parts), {**parts, "summary": said}, counts, 0.0)
    _write(output, table.replace_schema_metadata({FOOTER_KEY: footer.to_json()}))


def write_left_out(url: str, reasons: Mapping[int, str]) -> None:
    """`id, status, reason` of the rows that could not be picked."""
    ids = pa.array(list(reasons), pa.int64())
    statuses = pa.array([str(Status.FAILED)] * len(reasons), pa.string())
    table = pa.table([ids, statuses, pa.array(list(reasons.values()), pa.string())], ["id", TAIL[0].name, TAIL[1].name])
    _write(url, table)


def _write(url: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(url, buffer.getvalue())


def write_selected(picks: str, annotations: str, selected: str) -> int:
    """The picks' entries of a preprocessed LLaVA list, in the order of the picks and without `unique_idx`.

    Returns how many. Raises `VlfilterError` when the list lacks an id or has one twice.
    """
    parts = {"step": "selected", "picks": file_digest(picks), "annotations": file_digest(annotations), "code": CODE}
    if summary := finished(selected, parts):
        return int(summary["entries"])
    order = _picked(picks)
    wanted = set(order)
    entries: dict[int, bytes] = {}
    for position, entry in enumerate(stream_list(annotations)):
        number = entry.get("unique_idx", position) if isinstance(entry, dict) else position
        if number not in wanted:
            continue
        if number in entries:
            raise VlfilterError(f"{annotations} has more than one entry with the unique_idx {number}.")
        entries[number] = json.dumps({name: value for name, value in entry.items() if name != "unique_idx"}).encode()
    if absent := [i for i in order if i not in entries]:
        raise VlfilterError(
            f"{annotations} has no entry for {len(absent)} picks, the first is id {absent[0]}: are these the "
            "annotations that the features were made from?"
        )
    with whole_file(selected) as file:
        file.write(b"[" + b", ".join(entries[i] for i in order) + b"]")
    write_receipt(selected, parts, {"entries": len(order)})
    return len(order)


def _picked(picks: str) -> list[int]:
    with open_parquet(picks) as file:
        ids: list[int] = file.read(columns=["id"])["id"].to_pylist()
    return ids
