"""How many samples a host can make ready for models: read, decoded, resized, tokenised, and then dropped.

Takes `ScoreParams` for one scorer as JSON and a number of runs, each of which reads all shards with `workers` threads
or processes (`prepare_in`), as a worker for each of several GPUs would. The last line is samples a second over all, as
JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier

from vlfilter.data.reader import ShardReader
from vlfilter.data.shards import list_shards
from vlfilter.scoring.engine import EngineSettings
from vlfilter.scoring.loaded import load_processes, load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.pipeline import prepare_shard


def read_all(params: ScoreParams, ready: Barrier) -> None:
    (runner,) = load_runners(params, params.scorer)  # loaded before the runs part, so at once
    prepare = EngineSettings(processes=load_processes(params, [runner])).prepare([runner.scorer])
    for first in (True, False):  # once to start what has to start
        for shard in list_shards(params.shards):
            for _ in prepare_shard(ShardReader(shard), prepare, params.workers):
                pass
        if first:
            ready.wait()


def main() -> None:
    params = ScoreParams.model_validate_json(sys.argv[1])
    count = int(sys.argv[2])
    load_runners(params, params.scorer)
    samples = sum(1 for shard in list_shards(params.shards) for _ in ShardReader(shard))
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(count + 1)
    runs = [context.Process(target=read_all, args=(params, ready)) for _ in range(count)]
    for run in runs:
        run.start()
    ready.wait()
    started = time.perf_counter()
    for run in runs:
        run.join()
    seconds = time.perf_counter() - started
    if any(run.exitcode for run in runs):
        raise SystemExit("a run failed")
    print(json.dumps({"samples_per_s": count * samples / seconds, "seconds": seconds}))


if __name__ == "__main__":
    main()
