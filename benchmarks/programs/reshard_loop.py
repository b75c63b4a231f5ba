"""Reshards once, as vlfilter or as a plain webdataset loop, and prints samples and seconds of the loop alone."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def ours(shards: str, subset: str, output: str, workers: int) -> tuple[int, float]:
    from vlfilter.data.reshard import reshard
    from vlfilter.data.shards import list_shards

    listed = list_shards(shards)
    part = -(-len(listed) // workers)
    summary = reshard(listed, subset, output, shards_per_part=part, workers=workers)
    return summary.written, summary.seconds


def plain(shards: str, subset: str, output: str) -> tuple[int, float]:
    """webdataset as most write it: no decoding, uids looked up in a set, ShardWriter."""
    import webdataset

    packed = np.load(subset)
    kept = set(zip(packed["f0"].tolist(), packed["f1"].tolist(), strict=True))
    Path(output).mkdir(parents=True)
    tars = [str(tar) for tar in sorted(Path(shards).glob("*.tar"))]
    started, written = time.monotonic(), 0
    with webdataset.ShardWriter(f"{output}/%05d.tar", maxcount=10_000, encoder=False, verbose=0) as writer:
        for sample in webdataset.WebDataset(tars, shardshuffle=False):
            uid = json.loads(sample["json"])["uid"]
            if (int(uid[:16], 16), int(uid[16:], 16)) in kept:
                writer.write(sample)
                written += 1
    return written, time.monotonic() - started


def main() -> None:
    way, shards, subset, output, workers = sys.argv[1:]
    written, seconds = ours(shards, subset, output, int(workers)) if way == "ours" else plain(shards, subset, output)
    print(json.dumps({"written": written, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
