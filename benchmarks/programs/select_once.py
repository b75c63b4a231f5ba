"""Selects once, as vlfilter or as DataComp's scripts do, and prints how many rows were kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def ours(root: str, output: str, rule: str) -> int:
    from vlfilter.selection.select import select

    return select(root, output, where=rule).kept


def datacomps(root: str, output: str) -> int:
    """The way of DataComp's baselines: all scores in memory and sorted by numpy, uids packed one by one."""
    import pandas as pd

    clip, unifilter = (sorted((Path(root) / scorer).glob("*.parquet")) for scorer in ("clip_score", "unifilter"))
    everything = np.concatenate([pd.read_parquet(path, columns=["clip_score"])["clip_score"].dropna() for path in clip])
    threshold = -np.sort(-everything)[int(len(everything) * 0.3)]
    parts = []
    for one, other in zip(clip, unifilter, strict=True):
        frame = pd.read_parquet(one, columns=["uid", "clip_score"])
        frame["quality_score"] = pd.read_parquet(other, columns=["quality_score"])["quality_score"]
        frame = frame[(frame["quality_score"] >= 2.5) & (frame["clip_score"] >= threshold)]
        parts.append(np.array([(int(u[:16], 16), int(u[16:32], 16)) for u in frame["uid"]], np.dtype("u8,u8")))
    packed = np.concatenate(parts)
    packed.sort()
    np.save(output, packed)
    return len(packed)


def main() -> None:
    way, root, output, rule = sys.argv[1:]
    print(json.dumps({"kept": ours(root, output, rule) if way == "ours" else datacomps(root, output)}))


if __name__ == "__main__":
    main()
