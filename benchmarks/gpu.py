"""Full sizes with random weights on a GPU, in bfloat16: scorers beside their bare forward and beside plain loops.

Also: scores against float32 on the CPU, how many samples a second this host makes ready (so how many such GPUs it can
feed), and Self-Filter's selection at the published size. `python -m benchmarks.gpu [PART …]` runs only some of
correct, unifilter, clip_score, mlm_filter, host, selection and keeps what is known of the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.data_path import Case, lines_of, measure
from benchmarks.diverse_selection import PUBLISHED, make_data
from benchmarks.harness import (
    RESULTS,
    VISIBLE,
    Line,
    ProgramError,
    at_most,
    last_json,
    machine,
    python,
    run_program,
    scratch_folder,
    write_result,
)
from benchmarks.tables import column_by_key
from vlfilter.scoring.mlm_filter_prompts import METRICS

CORES = len(os.sched_getaffinity(0))
CASES = {
    "unifilter": Case("unifilter", "unifilter_qwen2.5_1.5b", "bfloat16", "cuda", (2, 1500), 32768, CORES, 2,
                      "unifilter_loop", (1, 300)),
    "clip_score": Case("clip_score", "clip_vit_l_14", "bfloat16", "cuda", (6, 2000), 65536, CORES, 2,
                       "clip_loop", (16, 250)),  # webdataset gives each of its workers tars of its own
    "mlm_filter": Case("mlm_filter", "mlm_filter_qwen2.5_1.5b", "bfloat16", "cuda", (2, 500), 32768, CORES, 2,
                       "mlm_filter_loop", (1, 64)),
}  # fmt: skip
FEW = {"unifilter": (1, 8), "clip_score": (1, 64), "mlm_filter": (1, 4)}  # shards and samples for the CPU to check
COLUMNS = {
    "unifilter": ("quality_score",),
    "clip_score": ("clip_score",),
    "mlm_filter": tuple(f"{metric}_score" for metric in METRICS),
}
MOST = {"unifilter": 1e-3, "clip_score": 1e-4, "mlm_filter": 0.05}  # float32 on both; mlm_filter's are of 100
PORT_PICKS = 20
RUNS = 4  # as if for so many GPUs
Found = dict[str, Any]


def correct(scratch: Path) -> Found:
    """The largest difference of any score from float32 on the CPU, for float32 and bfloat16 on the GPU."""
    found: Found = {}
    for name, case in CASES.items():
        few = replace(case, shards=FEW[name], batch_tokens=8192)
        tables = {}
        for device, dtype in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")):
            output = scratch / f"{name}-{device}-{dtype}"
            parameters = few.parameters(output, device=device, dtype=dtype)
            run_program(python("benchmarks.programs.score_engine", json.dumps(parameters)), VISIBLE)
            tables[device, dtype] = [column_by_key(output, column) for column in COLUMNS[name]]
        reference = tables["cpu", "float32"]
        found[name] = {"samples": len(reference[0]), "spread": [float(np.std(list(c.values()))) for c in reference]}
        for dtype in ("float32", "bfloat16"):
            pairs = zip(reference, tables["cuda", dtype], strict=True)
            found[name][dtype] = max(abs(one[key] - other[key]) for one, other in pairs for key in one)
    return found


def host(scratch: Path) -> Found:
    """Samples a second that all cores make ready for several runs at once."""
    found: Found = {}
    for name, case in CASES.items():
        few = replace(case, shards=(1, 1000), workers=max(1, CORES // RUNS))
        parameters = few.parameters(scratch, device="cpu", prepare_in="processes")
        command = python("benchmarks.programs.prepare_rate", json.dumps(parameters), str(RUNS))
        found[name] = last_json(run_program(command)[1])["samples_per_s"]
    return found


def selection(scratch: Path) -> Found:
    """The command at the published size on GPU and CPU, and the described procedure on the GPU for a few picks."""
    rows, dim, picks = PUBLISHED
    data, found, ids = make_data(rows, dim), {}, {}
    for device in ("cuda", "cpu"):
        output = scratch / f"{device}.parquet"
        command = python("benchmarks.programs.vlfilter_command", "self-filter", "select", "--device", device)
        command += ["--features", str(data / "features.npz"), "--difficulty", str(data / "difficulty.parquet")]
        command += ["--budget", str(picks), "--output", str(output)]
        found[device] = run_program(command, VISIBLE)[0].as_json()
        ids[device] = pq.read_table(output)["id"].to_pylist()
    if ids["cuda"] != ids["cpu"]:
        raise SystemExit("the GPU's picks are others than the CPU's")
    arguments = (str(data / "features.npy"), str(data / "difficulty.npy"), str(PORT_PICKS), str(scratch / "port.npy"))
    command = python("benchmarks.programs.diverse_port", *arguments, "cuda")
    found["port_s_a_pick"] = last_json(run_program(command, VISIBLE)[1])["wall_s"] / PORT_PICKS
    return found


def _case(name: str) -> Callable[[Path], Found]:
    return lambda scratch: measure(CASES[name], scratch)


PARTS: dict[str, Callable[[Path], Found]] = {
    "host": host,
    "clip_score": _case("clip_score"),
    "unifilter": _case("unifilter"),
    "selection": selection,
    "correct": correct,
    "mlm_filter": _case("mlm_filter"),
}


def lines(found: Found) -> list[Line]:
    """All parts', each with the GPU that it ran on."""
    return [
        replace(line, what=f"{found['gpus'][part]}, {line.what}")
        for part in PARTS
        if part in found
        for line in lines_of_part(part, found)
    ]


def lines_of_part(part: str, found: Found) -> list[Line]:
    made = []
    if part in CASES:
        return lines_of(found[part], f"{CASES[part].preset}, ")
    for name, one in found[part].items() if part == "correct" else ():
        what = f"{name}: largest difference from float32 on the CPU"
        made.append(at_most(f"{what}, float32", one["float32"], "", MOST[name]))
        spread = f"{one['samples']} samples' standard deviation"
        made.append(Line(f"{what}, bfloat16", one["bfloat16"], "", baseline=max(one["spread"]), baseline_name=spread))
    for name, rate in found[part].items() if part == "host" else ():
        gpu = found.get(name, {}).get("bare_samples_per_s")
        beside = {"baseline": round(gpu, 1), "baseline_name": "the bare forward of one GPU"} if gpu else {}
        made.append(Line(f"{name}: made ready by {CORES} cores for {RUNS} runs", round(rate), "samples/s", **beside))
    if part == "selection":
        one, (rows, _, picks) = found[part], PUBLISHED
        what = f"Self-Filter's selection, {picks:,} of {rows:,}, the command"
        cpu = {"baseline": round(one["cpu"]["wall_s"], 1), "baseline_name": f"{CORES} CPU cores, the same picks"}
        made.append(Line(what, round(one["cuda"]["wall_s"], 1), "s", **cpu))
        port = {
            "baseline": round(one["port_s_a_pick"] * picks),
            "baseline_name": f"port on the GPU, {PORT_PICKS} picks",
        }
        made.append(Line(what, round(one["cuda"]["wall_s"], 1), "s", **port))
    return made


def main() -> None:
    if not machine()["gpu"]:
        print("gpu: there is no GPU here, so it was not run")
        return
    path = RESULTS / "gpu.json"
    found = json.loads(path.read_text())["details"] if path.is_file() else {}
    failed = []
    for part in sys.argv[1:] or PARTS:
        try:
            started = time.perf_counter()
            with scratch_folder("gpu") as place:
                found[part] = PARTS[part](Path(place))
            found.setdefault("gpus", {})[part] = machine()["gpu"]
        except ProgramError as error:
            failed.append(part)
            print(f"gpu: {part} failed: {error}", flush=True)
            continue
        print(f"gpu: {part}, {time.perf_counter() - started:.0f} s: {json.dumps(found[part])}", flush=True)
        write_result("gpu", lines(found), found)  # each part as soon as it is there
    sys.exit(bool(failed) or any(line.met is False for line in lines(found)))


if __name__ == "__main__":
    main()
