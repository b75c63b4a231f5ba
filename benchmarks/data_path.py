"""What reading, decoding, resizing and tokenising cost UniFilter beside the bare forward pass on ready batches.

By turns in one process, with a loop as the published script's beside it. The model here is a small one on the CPU, one
forward of which takes 20 ms or more; `benchmarks.data_path_gpu` takes the full size.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import describe_shards, make_shards
from benchmarks.harness import Line, at_least, last_json, python, run_program, scratch_folder, write_result
from benchmarks.models import unifilter


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    preset: str
    dtype: str
    device: str
    shards: int
    samples: int
    batch_tokens: int
    workers: int


CPU = Case("data_path", "unifilter_small", "float32", "cpu", 1, 192, 2048, 2)


def measure(case: Case, tars: list[Path], scratch: Path) -> dict[str, Any]:
    parameters = {
        "shards": [str(tar) for tar in tars],
        "output": str(scratch),
        "scorer": ["unifilter"],
        "model": {"unifilter": str(unifilter(case.preset, case.dtype))},
        "device": case.device,
        "dtype": case.dtype,
        "batch_tokens": case.batch_tokens,
        "workers": case.workers,
    }
    command = python("benchmarks.programs.data_path", json.dumps(parameters))
    found: dict[str, Any] = last_json(run_program(command, _visible(case))[1])
    return found


def published_loop(case: Case, tars: list[Path], scratch: Path) -> float:
    """Samples a second of a loop as the published script's, over all tars, the loading of the model left out."""
    arguments = (str(unifilter(case.preset, case.dtype)), str(scratch / "loop"), *map(str, tars))
    env = _visible(case) | {"BENCHMARK_DEVICE": case.device, "BENCHMARK_DTYPE": case.dtype}
    found = last_json(run_program(python("benchmarks.programs.unifilter_loop", *arguments), env)[1])
    return float(found["samples"] / found["seconds"])


def run(case: Case) -> bool:
    folder = make_shards(case.shards, case.samples)
    tars = sorted(folder.glob("*.tar"))
    with scratch_folder("data-path") as place:
        found = measure(case, tars, Path(place))
        loop = published_loop(case, tars, Path(place))
    rate, bare = found["engine_samples_per_s"], found["bare_samples_per_s"]
    used = 1e9 * found["gflop_a_sample"] * rate / (1e12 * found["matrix_tflop_per_s"])
    lines = [
        at_least("scoring: share of the bare forward's speed", round(100 * found["share"], 1), "%", 90),
        Line("scoring", round(rate, 2), "samples/s", baseline=round(loop, 2), baseline_name="plain loop"),
        Line("scoring", round(rate, 2), "samples/s", baseline=round(bare, 2), baseline_name="bare forward"),
        Line("FLOP used, of those of a large matrix product", round(100 * used, 1), "%"),
    ]
    if case.device == "cpu":
        lines.insert(1, at_least("one forward", round(1e3 / bare, 1), "ms a sample", 20))
    details = {"data": describe_shards(folder), "preset": case.preset, "batch_tokens": case.batch_tokens, **found}
    return write_result(case.name, lines, details)


def _visible(case: Case) -> dict[str, str]:
    """The harness hides GPUs from what it measures."""
    return {"CUDA_VISIBLE_DEVICES": "0"} if case.device == "cuda" else {}


if __name__ == "__main__":
    sys.exit(not run(CPU))
