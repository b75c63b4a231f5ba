"""Copies the samples that a subset names into new tars: WAY SHARDS SUBSET OUTPUT; prints samples and loop seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

PER_SHARD = 1000


def vlfilters(shards: str, subset: str, output: str, workers: int) -> tuple[int, int, float]:
    """(read, written, seconds)."""
    from vlfilter.data.reshard import reshard
    from vlfilter.data.shards import list_shards

    summary = reshard(list_shards(shards), subset, output, samples_per_shard=PER_SHARD, workers=workers)
    return summary.read, summary.written, summary.seconds


def webdatasets(shards: str, subset: str, output: str) -> tuple[int, int, float]:
    """A plain loop of webdataset's reader and writer, as its documentation shows."""
    import numpy as np
    import webdataset as wds

    wanted = {(int(high), int(low)) for high, low in np.load(subset)}
    tars = [str(path) for path in sorted(Path(shards).glob("*.tar"))]
    Path(output).mkdir(parents=True)
    read = written = 0
    began = time.perf_counter()
    with wds.ShardWriter(f"{output}/%05d.tar", maxcount=PER_SHARD, verbose=0) as sink:
        for sample in wds.WebDataset(tars, shardshuffle=False):
            read += 1
            uid = json.loads(sample["json"])["uid"]
            if (int(uid[:16], 16), int(uid[16:], 16)) in wanted:
                sink.write(sample)
                written += 1
    return read, written, time.perf_counter() - began


def main() -> None:
    way, shards, subset, output = sys.argv[1:]
    if way == "webdataset":
        read, written, seconds = webdatasets(shards, subset, output)
    else:
        read, written, seconds = vlfilters(shards, subset, output, workers=int(way.removeprefix("vlfilter-")))
    print(json.dumps({"read": read, "written": written, "loop_s": round(seconds, 3)}))


if __name__ == "__main__":
    main()
