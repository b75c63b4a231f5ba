"""A tiny model learns from three of MiniGPT-v2's data formats and is measured in three benchmarks' formats: against
itself untrained, and against the best constant answer to each kind of question. Real images: handwritten digits
(scikit-learn) on textures (scikit-image); three seeds of data and training. The whole is the flow `minigpt-v2`: check
→ fine-tune → evaluate.

The tower was trained on other images with captions, as EVA's is; the language model starts at random, so it is trained
whole, where MiniGPT-v2's has LoRA.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from benchmarks.digits import digits, make_towers
from benchmarks.harness import Line, at_least, python, run_program, scratch_folder, write_result
from benchmarks.minigpt_v2_world import Sizes, constant, make_world, phrases, words
from vlfilter.demo.captions import describe
from vlfilter.demo.seeds import stream
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import Source
from vlfilter.models.tokenizer import train_tokenizer

SEEDS, CLIP_STEPS, STEPS = (0, 1, 2), 400, 8000  # letters are learnt late, between 3,000 and 5,000
NAMES = {"seed": "SEED-Bench's format", "okvqa": "OK-VQA's format", "vsr": "VSR's format"}


def make_models(folder: Path, clip_steps: int) -> None:
    """`start`, the same for all seeds: a tower trained on captions, all else random."""
    clean = list(digits("train", 3000, 0))
    rng = stream(0, "captions")
    told = [describe(scene.attributes, rng) for scene in clean]
    tokenizer = train_tokenizer([*told, *words() * 50], 500, phrases=phrases())
    make_towers(folder, clean, told, tokenizer, clip_steps, 0)


def fields(folder: Path, start: Path, seed: int, steps: int) -> dict[str, Any]:
    """The run's YAML file."""
    training = {
        "model": str(start), "template": "minigpt_v2", "image_mode": "processor", "trainable": "language+projector",
        "iters_per_epoch": steps, "warmup_steps": 50,
        "batch_size": 24, "per_device_batch": 24, "learning_rate": 1e-3, "max_length": 256, "save_steps": 10_000,
        "data_workers": 0, "seed": seed,
    }  # fmt: skip
    return {
        "output": str(folder / "run"),
        "mixture": str(folder / "mixture.yaml"),
        "train": {"preset": "data_engine_tiny", "settings": training},
        "evaluate": evaluation(folder),
    }


def evaluation(folder: Path) -> dict[str, Any]:
    test = folder / "test"
    steps = [{"benchmark": name, "data": str(test), "images": str(test / "images")} for name in NAMES]
    settings = {"device": "cpu", "batch_tokens": 16384, "max_tokens": 8}
    return {"benchmarks": steps, "settings": settings}


def run_seed(folder: Path, start: Path, sizes: Sizes, seed: int, steps: int) -> dict[str, Any]:
    """Percent right: of the trained model, of the same untrained, of the best constant answers."""
    make_world(folder, sizes, seed)
    own = fields(folder, start, seed, steps)
    untrained = {"output": str(folder / "untrained"), "evaluate": own["evaluate"] | {"model": str(start)}}
    untrained["evaluate"]["settings"] = own["evaluate"]["settings"] | {"template": "minigpt_v2"}
    started = time.monotonic()
    for told in (own, untrained):
        config = folder / "run.yaml"
        config.write_text(yaml.safe_dump(told))
        command = python("benchmarks.programs.vlfilter_command", "minigpt-v2", "run", "--config", str(config))
        run_program(command, {"PREFECT_HOME": str(folder / "prefect")}, timeout=3600)
    print(f"seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    source = Source(str(folder / "test"))
    found = {
        "trained": scores(folder / "run"),
        "untrained": scores(folder / "untrained"),
        "constant": {name: constant(find_benchmark(name), source) for name in NAMES},
    }
    print(json.dumps(found), flush=True)
    return found


def scores(output: Path) -> dict[str, float]:
    """Percent by the house's rule."""
    return {
        name: json.loads((output / "evaluation" / name / "scores.json").read_text())["scores"][0]["fixed"]
        for name in NAMES
    }


def lines(found: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Of each benchmark the mean over seeds beside the untrained model's, and the smallest lead over the constant."""
    made = []
    for name, title in NAMES.items():
        trained, untrained, fixed = ([one[who][name] for one in found] for who in ("trained", "untrained", "constant"))
        beside = {"baseline": mean(untrained), "baseline_name": "untrained"}
        made.append(Line(f"{title}, mean of {len(found)} seeds", mean(trained), "% right", **beside))
        for other, values in (("untrained", untrained), ("the best constant answers", fixed)):
            leads = [ours - theirs for ours, theirs in zip(trained, values, strict=True)]
            what = f"{title}, smallest lead over {other}"
            made.append(at_least(what, min(leads), "points", 0.1, baseline=mean(values), baseline_name=other))
    return made


def run() -> bool:
    with scratch_folder("minigpt-v2-digits") as place:
        scratch = Path(place)
        make_models(scratch / "models", CLIP_STEPS)
        start = scratch / "models" / "start"
        found = [run_seed(scratch / f"seed{seed}", start, Sizes(), seed, STEPS) for seed in SEEDS]
    details = {"seeds": list(SEEDS), "steps": STEPS, "found": found}
    return write_result("minigpt_v2_digits", lines(found), details)


if __name__ == "__main__":
    sys.exit(not run())
