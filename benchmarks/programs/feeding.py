"""Scores tars with `benchmarks.waiting` a few times, as the flow does. Takes `ScoreParams` as JSON; the last line is
how much of the device's time was used, and the processor time of this process and of those that prepare, as JSON."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.programs.data_path import cpu_seconds
from benchmarks.waiting import WaitingScorer
from vlfilter.data.shards import Shard, list_shards
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_processes, load_runners
from vlfilter.scoring.params import ScoreParams

ROUNDS = 4  # the first starts the processes


def main() -> None:
    params = ScoreParams.model_validate_json(sys.argv[1])
    shards = list_shards(params.shards)
    (runner,) = load_runners(params, [WaitingScorer.name])
    assert isinstance(runner.scorer, WaitingScorer)
    settings = EngineSettings(workers=params.workers, processes=load_processes(params, [runner]))

    def score(shard: Shard, place: str) -> int:
        return sum(result.footer.counts["ok"] for result in score_shard(shard, [runner], place, settings))

    turns = []
    for turn in range(ROUNDS):
        runner.scorer.device.busy, cpu, started = 0.0, cpu_seconds(), time.perf_counter()
        with ThreadPoolExecutor(params.shards_in_flight) as pool:
            samples = sum(pool.map(score, shards, [f"{params.output}/{turn}"] * len(shards)))
        wall = time.perf_counter() - started
        own, theirs = (1e3 * (after - before) / samples for before, after in zip(cpu, cpu_seconds(), strict=True))
        rates = {"samples_per_s": samples / wall, "cpu_ms_a_sample": own, "preparing_cpu_ms": theirs}
        turns.append({"share": runner.scorer.device.busy / wall, **rates})
    print(json.dumps({"turns": turns[1:]}))


if __name__ == "__main__":
    main()
