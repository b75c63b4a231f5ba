"""What reading, decoding, resizing and tokenising cost UniFilter beside the bare forward pass on ready batches.

By turns in one process, with a loop as the published script's beside it. The model here is a small one on the CPU, one
forward of which takes 20 ms or more; `benchmarks.gpu` takes the full sizes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import describe_shards, make_shards
from benchmarks.harness import VISIBLE, Line, at_least, last_json, python, run_program, scratch_folder, write_result
from benchmarks.models import model_of


@dataclass(frozen=True, slots=True)
class Case:
    """One scorer at one size. `loop` is the program of a plain loop beside it, `loop_shards` what that one reads."""

    scorer: str
    preset: str
    dtype: str
    device: str
    shards: tuple[int, int]  # so many of so many samples
    batch_tokens: int
    workers: int
    in_flight: int
    loop: str
    loop_shards: tuple[int, int]

    @property
    def environment(self) -> dict[str, str]:
        """The harness hides GPUs from what it measures."""
        return VISIBLE if self.device == "cuda" else {}

    def parameters(self, output: Path, **changes: Any) -> dict[str, Any]:
        return {
            "shards": [str(tar) for tar in tars(self.shards)], "output": str(output), "scorer": [self.scorer],
            "model": {self.scorer: str(model_of(self.preset, self.dtype))}, "device": self.device, "dtype": self.dtype,
            "batch_tokens": self.batch_tokens, "workers": self.workers, "shards_in_flight": self.in_flight, **changes,
        }  # fmt: skip


CPU = Case("unifilter", "unifilter_small", "float32", "cpu", (1, 192), 2048, 2, 1, "unifilter_loop", (1, 192))


def tars(shards: tuple[int, int]) -> Sequence[Path]:
    return sorted(make_shards(*shards).glob("*.tar"))


def measure(case: Case, scratch: Path) -> dict[str, Any]:
    """The engine and the bare forward by turns (`programs.data_path`), and samples a second of the plain loop."""
    command = python("benchmarks.programs.data_path", json.dumps(case.parameters(scratch / case.scorer)))
    found: dict[str, Any] = last_json(run_program(command, case.environment)[1])
    arguments = (str(model_of(case.preset, case.dtype)), str(scratch / case.loop), *map(str, tars(case.loop_shards)))
    env = case.environment | {
        "BENCHMARK_DEVICE": case.device, "BENCHMARK_DTYPE": case.dtype, "BENCHMARK_WORKERS": str(case.workers)
    }  # fmt: skip
    loop = last_json(run_program(python(f"benchmarks.programs.{case.loop}", *arguments), env)[1])
    return found | {"loop_samples_per_s": float(loop["samples"] / loop["seconds"])}


def lines_of(found: dict[str, Any], name: str = "") -> list[Line]:
    """What `measure` found, as lines of the table."""
    rate, bare = found["engine_samples_per_s"], found["bare_samples_per_s"]
    loop, work = found["loop_samples_per_s"], 100e-3 * found["gflop_a_sample"] / found["matrix_tflop_per_s"]
    scoring = f"{name}scoring"
    return [
        at_least(f"{scoring}: share of the bare forward's speed", round(100 * found["share"], 1), "%", 90),
        Line(scoring, round(rate, 2), "samples/s", baseline=round(loop, 2), baseline_name="plain loop"),
        Line(scoring, round(rate, 2), "samples/s", baseline=round(bare, 2), baseline_name="bare forward"),
        Line(f"{scoring}: FLOP used, of those of a large matrix product", round(work * rate, 1), "%",
             baseline=round(work * bare, 1), baseline_name="bare forward"),
    ]  # fmt: skip


def run() -> bool:
    with scratch_folder("data-path") as place:
        found = measure(CPU, Path(place))
    lines = lines_of(found)
    lines.insert(1, at_least("one forward", round(1e3 / found["bare_samples_per_s"], 1), "ms a sample", 20))
    details = {"data": describe_shards(make_shards(*CPU.shards)), "preset": CPU.preset,
               "batch_tokens": CPU.batch_tokens, **found}  # fmt: skip
    return write_result("data_path", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
