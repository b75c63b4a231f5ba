"""Scores tars with the engine and with the model alone on batches made beforehand, by turns, in one process.

Takes `ScoreParams` for one scorer as JSON; the last line is what was measured, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.programs.bare import Bare
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import SampleError
from vlfilter.data.shards import Shard, list_shards
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_processes, load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.pipeline import Prepare, prepare_shard

ROUNDS = 3


def prepare(shards: Sequence[Shard], how: Prepare, workers: int) -> list[Prepared]:
    found = []
    for shard in shards:
        for sample in prepare_shard(ShardReader(shard), how, workers):
            if isinstance(sample.inputs[0], SampleError):
                raise SystemExit(f"{sample.key}: {sample.inputs[0].reason}")
            found.append(sample.inputs[0])
    return found


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of its children that live: which of both a slow engine waits for."""
    ticks = 0
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time(), ticks / os.sysconf("SC_CLK_TCK")


def matrix_rate(device: torch.device) -> float:
    """FLOP/s of a large bfloat16 product (float32 on a CPU), the best of several."""
    cuda = device.type == "cuda"
    side = 8192 if cuda else 2048
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16 if cuda else torch.float32)

    def product() -> None:
        for _ in range(5):
            one @ one
        if cuda:
            torch.cuda.synchronize()

    product()
    return 5 * 2 * side**3 / min(seconds(product) for _ in range(5))


def main() -> None:
    params = ScoreParams.model_validate_json(sys.argv[1])
    shards = list_shards(params.shards)
    (runner,) = load_runners(params, params.scorer)
    settings = EngineSettings(workers=params.workers, processes=load_processes(params, [runner]))
    bare = Bare(runner, prepare(shards, settings.prepare([runner.scorer]), params.workers))

    def engine(turn: int) -> None:
        place = str(Path(params.output) / str(turn))
        with ThreadPoolExecutor(params.shards_in_flight) as pool:  # as the flow has it
            list(pool.map(lambda shard: score_shard(shard, [runner], place, settings), shards))

    flops = bare.flops()  # also the first, slow pass
    turns, cpu = [], []
    for turn in range(ROUNDS):
        bare_s, before = seconds(bare.all), cpu_seconds()
        turns.append((bare_s, seconds(partial(engine, turn))))
        cpu.append([round(now - then, 2) for now, then in zip(cpu_seconds(), before, strict=True)])
    found = {
        "samples": bare.samples,
        "bare_s": [round(one, 3) for one, _ in turns],
        "engine_s": [round(two, 3) for _, two in turns],
        "engine_cpu_s": cpu,  # of the engine's process, of those that prepare
        "bare_samples_per_s": bare.samples / median(one for one, _ in turns),
        "engine_samples_per_s": bare.samples / median(two for _, two in turns),
        "share": median(one / two for one, two in turns),
        "gflop_a_sample": flops / bare.samples / 1e9,
        "matrix_tflop_per_s": matrix_rate(bare.device) / 1e12,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if bare.device.type == "cuda" else "cpu",
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
