"""Scores shards with the engine alone, one after the other, without Prefect. Takes `ScoreParams` as JSON."""

from __future__ import annotations

import json
import sys
import time

from vlfilter.data.shards import list_shards
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_processes, load_runners
from vlfilter.scoring.params import ScoreParams


def main() -> None:
    params = ScoreParams.model_validate_json(sys.argv[1])
    shards = list_shards(params.shards)
    runners = load_runners(params, [scorer.name for scorer in params.scorers()])
    settings = EngineSettings(workers=params.workers, processes=load_processes(params, runners))
    ready, started = time.process_time(), time.perf_counter()
    counts = [
        result.footer.counts for shard in shards for result in score_shard(shard, runners, params.output, settings)
    ]
    loop, wall = time.process_time() - ready, time.perf_counter() - started
    rows = sum(sum(count.values()) for count in counts)
    ok = sum(count.get("ok", 0) for count in counts)
    told = {"rows": rows, "ok": ok, "start_cpu_s": round(ready, 3), "loop_cpu_s": round(loop, 3)}
    print(json.dumps(told | {"loop_s": round(wall, 3)}))


if __name__ == "__main__":
    main()
