"""How much of a fast device's time the engine uses, where processes enough prepare: both are stood in for by waiting.

Each process waits as long as one core of a GPU's host took to decode and resize for CLIP ViT-L/14, and as many of them
as make 1.5 times what the device takes prepare for it. So what is measured is the engine itself: reading, handing over
and back, batches, tables. A share that falls as the device gets faster shows the ceiling of this machine.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks.data import add_sample, repeat_shards
from benchmarks.harness import Line, at_least, last_json, python, run_program, scratch_folder, write_result
from benchmarks.waiting import NAME

RATES = (500, 1000, 2000)  # samples a second; an H100 takes some 2,100 in CLIP ViT-L/14
PREPARE_S = 4.85e-3  # CLIP's plain loop beside the H200 (`benchmarks.gpu`): two workers, 412 samples a second
MARGIN = 1.5  # of what is prepared over what the device takes
SHARDS, SAMPLES, IN_FLIGHT, BATCH_TOKENS = 6, 2000, 2, 65536
IMAGE_BYTES = 38_000  # a web image's; the picture in it is one pixel, as nothing is to be decoded
NAMES = ("share", "samples_per_s", "cpu_ms_a_sample", "preparing_cpu_ms")


def write_shard(path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "BMP")
    image = buffer.getvalue().ljust(IMAGE_BYTES, b"\0")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(SAMPLES):
            add_sample(tar, f"{index:06d}", {"jpg": image, "txt": b"a red cat", "json": b"{}"})


def run() -> bool:
    lines, details = [], {}
    with scratch_folder("feeding") as place:
        scratch = Path(place)
        (scratch / "one").mkdir()
        write_shard(scratch / "one" / "0.tar")
        shards = repeat_shards(scratch / "one", SHARDS, scratch / "shards")
        for rate in RATES:
            workers = round(rate * MARGIN * PREPARE_S)
            parameters = {
                "shards": [str(shards)], "output": str(scratch / str(rate)), "scorer": [NAME], "workers": workers,
                "options": {NAME: {"prepare_s": PREPARE_S, "device_s": 1 / rate}}, "shards_in_flight": IN_FLIGHT,
                "batch_tokens": BATCH_TOKENS, "prepare_in": "processes",
            }  # fmt: skip
            _, text = run_program(python("benchmarks.programs.feeding", json.dumps(parameters)))
            found = {name: median(turn[name] for turn in last_json(text)["turns"]) for name in NAMES}
            cores = (found["cpu_ms_a_sample"] + found["preparing_cpu_ms"]) * found["samples_per_s"] / 1000
            what = f"a device of {rate:,} samples/s, {workers} processes"
            lines += [
                at_least(f"{what}: share of its time in use", round(100 * found["share"], 1), "%", 90),
                Line(f"{what}: the engine's own process", round(found["cpu_ms_a_sample"], 3), "CPU-ms a sample"),
                Line(f"{what}: with all its processes", round(cores, 2), "cores"),
            ]
            details[str(rate)] = {"workers": workers, **found}
    return write_result("feeding", lines, {"image_bytes": IMAGE_BYTES, **details})


if __name__ == "__main__":
    sys.exit(not run())
