"""Stage 2, first half: how hard each sample is, −(score net · features); no language model (arXiv 2402.12501)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vlfilter.data.features import Features, features_made_of, open_features
from vlfilter.data.samples import Status
from vlfilter.data.tables import TAIL
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.difficulty_files import read_difficulty
from vlfilter.methods.self_filter.row_shards import shard_footer, write_shard
from vlfilter.methods.self_filter.score_net import score_net_weight

CODE = 1
SCHEMA = pa.schema([pa.field("id", pa.int64(), False), pa.field("difficulty", pa.float64()), *TAIL])


@dataclass(frozen=True, slots=True)
class DifficultySummary:
    """`counts` rows by status; lowest, median and highest difficulty; whether the file was there already."""

    counts: Mapping[str, int]
    lowest: float
    median: float
    highest: float
    kept: bool

    def lines(self) -> list[str]:
        rows = ", ".join(f"{count:,} {status}" for status, count in self.counts.items()) or "no rows"
        there = " (there already)" if self.kept else ""
        return [
            f"{rows}{there}",
            f"difficulty: min {self.lowest:.6g}, median {self.median:.6g}, max {self.highest:.6g}",
        ]


def difficulty_of(features: Features, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """float64 [N], −features · weight for every id, summed in float64. Higher is harder.

    Raises `VlfilterError` when the weight was trained on features of another length.
    """
    if features.dim != len(weight):
        raise VlfilterError(
            f"the score net takes {len(weight)} numbers a sample, the features have {features.dim}: give the features "
            "that stage 1 was trained on (1536 of CLIP ViT-L/14, or 3 scores)."
        )
    wide = weight.astype(np.float64)
    values = np.empty(len(features))
    for start, block in features.blocks():
        values[start : start + len(block)] = -(block.astype(np.float64) @ wide)
    return values


def measure_difficulty(model: str, features: str, output: str, work: str | None = None) -> DifficultySummary:
    """Write `id, difficulty, status, reason` for every row of `features`, unless that file is there already.

    `work` is a local folder for features that do not fit into memory.
    """
    weight = score_net_weight(model)
    parts = {
        "step": "difficulty",
        "features": features_made_of(features),
        "score_net": hashlib.sha256(weight.tobytes()).hexdigest(),
        "code": CODE,
    }
    if kept := shard_footer(output, parts):
        return DifficultySummary(kept.counts, *_spread(read_difficulty(output).difficulty.values), kept=True)
    opened = open_features(features, work)
    values = difficulty_of(opened, weight)
    footer = write_shard(output, _table(opened, values), parts)
    return DifficultySummary(footer.counts, *_spread(values), kept=False)


def _spread(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    return float(values.min()), float(np.median(values)), float(values.max())


def _table(features: Features, values: npt.NDArray[np.float64]) -> pa.Table:
    """Every row in order of id, those without features too."""
    absent = np.array([i for i, _ in features.left_out], np.int64)
    ids = np.concatenate([features.ids, absent])
    order = np.argsort(ids, kind="stable")
    missing = np.arange(len(ids)) >= len(features)
    reasons = np.array([None] * len(features) + [reason for _, reason in features.left_out], object)
    statuses = np.where(missing, str(Status.FAILED), str(Status.OK))
    columns: dict[str, Any] = {
        "id": ids[order],
        "difficulty": pa.array(np.concatenate([values, np.zeros(len(absent))])[order], mask=missing[order]),
        "status": statuses[order].tolist(),
        "reason": reasons[order].tolist(),
    }
    return pa.table(columns, schema=SCHEMA)
