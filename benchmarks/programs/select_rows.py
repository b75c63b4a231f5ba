"""Selects by a rule over score tables, vlfilter's way or DataComp's: WAY TABLES OUTPUT RULE; prints the rows kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

CLIP_SHARE, LEAST_QUALITY = 0.3, 2.5
RULE = f"quality_score >= {LEAST_QUALITY} and clip_score >= top({CLIP_SHARE:.0%})"


def vlfilters(tables: str, output: str) -> int:
    from vlfilter.selection.select import select

    return select(tables, output, where=RULE).kept


def datacomps(tables: str, output: str) -> int:
    """As DataComp's baselines do: all scores in memory and sorted by numpy, uids packed one by one."""
    import numpy as np
    import pandas as pd

    clip, unifilter = (sorted((Path(tables) / scorer).glob("*.parquet")) for scorer in ("clip_score", "unifilter"))
    everything = np.concatenate([pd.read_parquet(path, columns=["clip_score"])["clip_score"].dropna() for path in clip])
    threshold = -np.sort(-everything)[int(len(everything) * CLIP_SHARE)]
    parts = []
    for one, other in zip(clip, unifilter, strict=True):
        frame = pd.read_parquet(one, columns=["uid", "clip_score"])
        frame["quality_score"] = pd.read_parquet(other, columns=["quality_score"])["quality_score"]
        frame = frame[(frame["quality_score"] >= LEAST_QUALITY) & (frame["clip_score"] >= threshold)]
        parts.append(np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in frame["uid"]], np.dtype("u8,u8")))
    packed = np.concatenate(parts)
    packed.sort()
    np.save(output, packed)
    return len(packed)


def main() -> None:
    way, tables, output = sys.argv[1:]
    kept = {"vlfilter": vlfilters, "datacomp": datacomps}[way](tables, output)
    print(json.dumps({"kept": kept}))


if __name__ == "__main__":
    main()
