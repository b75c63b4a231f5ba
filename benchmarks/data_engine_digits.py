"""The data engine in a closed loop: a tiny model that is weak at two types of questions, and two rounds against that.

The loop is the command `vlfilter data-engine run`, on handwritten digits (scikit-learn's). Teacher and judges are a
SCRIPT behind a local HTTP server, asked through the real SDK: it writes questions from the true captions in the prompt
and errs in one of ten; no language model takes part. Beside it, from the same start and in trainings of the same
length, as many questions by the same teacher, spread evenly over all types. Accuracies are of the benchmark's questions
that never steer.

The questions are made of few wordings, so the rules that drop equal questions about other images are off.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from benchmarks.digits import TEMPLATE, digits, make_towers
from benchmarks.engine_even import even_rounds
from benchmarks.engine_teacher import script
from benchmarks.engine_world import WEAK, Sizes, make_world, phrases, texts, words
from benchmarks.harness import Line, python, run_program, scratch_folder, write_result
from tests.llm.vendor import VendorServer
from vlfilter.methods.data_engine.evaluate import EvaluatePlaces
from vlfilter.methods.data_engine.params import parse_params
from vlfilter.methods.data_engine.places import DataEnginePlaces, RoundPlaces
from vlfilter.methods.data_engine.rounds import read_evaluation
from vlfilter.models.conversation import template
from vlfilter.models.tokenizer import train_tokenizer
from vlfilter.training.launch import finetune
from vlfilter.training.settings import train_settings

SEEDS, ROUNDS, RECIPE = (0, 1, 2), 2, "data_engine_tiny"
CLIP_STEPS, CAPTION_STEPS, STEPS, QUERIES = 400, 300, 150, 30
ASKED = {"input_usd_per_million": 1, "output_usd_per_million": 1}


def make_models(folder: Path, clip_steps: int, caption_steps: int) -> None:
    """The same for all seeds: `clip`, and `stage1/model`, which has its tower and has learnt to caption: the start of
    all trainings."""
    clean = list(digits("train", 3000, 0))
    told = texts(clean, 0)
    whole = (template(TEMPLATE).system.strip(), *phrases())
    tokenizer = train_tokenizer([*told, *words() * 50], 500, phrases=whole)
    make_towers(folder, clean, told, tokenizer, clip_steps, 0)
    (folder / "images").mkdir()
    for number, scene in enumerate(clean):
        scene.image.save(folder / "images" / f"{number}.jpg", quality=95)
    seen = [scene.attributes for scene in clean]
    captions = [{"image_id": str(number), "caption": f"{one.tone} {one.label}"} for number, one in enumerate(seen)]
    (folder / "captions.json").write_text(json.dumps({"annotations": captions}))
    entry = {"name": "captions", "schema": "captions", "data": "captions.json", "images": "images", "sample_ratio": 1}
    (folder / "captions.yaml").write_text(yaml.safe_dump({"datasets": [entry]}))
    values = {"mixture": str(folder / "captions.yaml"), "output": str(folder / "stage1")}
    finetune(train_settings(values | training(str(folder / "start"), caption_steps, 0), RECIPE))


def training(model: str, steps: int, seed: int) -> dict[str, Any]:
    return {
        "model": model, "template": TEMPLATE, "trainable": "language+projector", "image_mode": "processor",
        "iters_per_epoch": steps, "warmup_steps": 10, "batch_size": 32, "per_device_batch": 32, "learning_rate": 2e-3,
        "max_length": 256, "gradient_checkpointing": False, "save_steps": 10_000, "data_workers": 2, "device": "cpu",
        "seed": seed,
    }  # fmt: skip


def engine_fields(folder: Path, models: Path, url: str, seed: int, steps: int, queries: int) -> dict[str, Any]:
    """The run's YAML file."""
    asked = {"base_url": url, "cache": str(folder / "answers"), **ASKED}
    tuned = training(str(models / "stage1" / "model"), steps, seed)
    rules = {"overlap": "image_and_question", "keep_duplicates": True}
    return {
        "output": str(folder / "engine"),
        "questions": str(folder / "val.json"),
        "images": str(folder / "val2017"),
        "rounds": ROUNDS,
        "seed": seed,
        "classify": asked,
        "evaluate": {"device": "cpu", "holdout": 0.6},
        "query": {
            "images": str(folder / "train2017"),
            "clip_model": str(models / "clip"),
            "captions": str(folder / "captions.json"),
            "instances": str(folder / "instances.json"),
            "maxnum": queries,
            "topk": 50,
            "device": "cpu",
        },
        "generate": asked,
        "verify": asked | rules | {"image_judge": "openai:gpt-4o", "text_judge": "openai:gpt-4o"},
        "train": {"mixture": str(folder / "mixture.yaml"), "preset": RECIPE, "settings": tuned},
    }


def run_seed(folder: Path, models: Path, sizes: Sizes, seed: int, steps: int, queries: int) -> dict[str, Any]:
    """The engine's run, and beside it the even rounds."""
    world = make_world(folder, sizes, seed)
    server = VendorServer()
    try:
        server.answer = script(world)
        fields = engine_fields(folder, models, server.openai_url, seed, steps, queries)
        (folder / "run.yaml").write_text(yaml.safe_dump(fields))
        command = python(
            "benchmarks.programs.vlfilter_command", "data-engine", "run", "--config", str(folder / "run.yaml")
        )
        started = time.monotonic()
        run_program(command, {"PREFECT_HOME": str(folder / "prefect")}, timeout=3600)
        params = parse_params(fields, "benchmark")
        weak = [round(scores(params.places.round(number))["weak"], 1) for number in range(1, ROUNDS + 2)]
        print(f"seed {seed}: the flow took {time.monotonic() - started:.0f} s; weak types {weak}", flush=True)
        even_rounds(params, folder / "even")
        asked = len(server.questions())
    finally:
        server.stop()
    engine, even = params.places, DataEnginePlaces.below(str(folder / "even"))
    start = scores(engine.round(1))
    return {
        "engine": [start, *(scores(engine.round(number)) for number in range(2, ROUNDS + 2))],
        "even": [start, *(scores(even.round(number)) for number in range(2, ROUNDS + 2))],
        "rounds": [told(engine, even, number) for number in range(1, ROUNDS + 1)],
        "requests": asked,
    }


def scores(place: RoundPlaces) -> dict[str, Any]:
    """Accuracies in percent of the model that a round begins with, on the questions held out."""
    found = read_evaluation(EvaluatePlaces.of(place.folder).scores)
    types = {entry["type"]: entry["accuracy"] for entry in found["types"]}
    weak = mean(types[kind] for kind in WEAK)
    return {"weak": weak, "others": mean(types[kind] for kind in types if kind not in WEAK), "types": types}


def told(engine: DataEnginePlaces, even: DataEnginePlaces, number: int) -> dict[str, Any]:
    """What a round was made of."""
    outcome = json.loads(Path(engine.round(number).outcome).read_text())
    return {
        "weights": json.loads(Path(engine.round(number).weights).read_text()),
        "replies": outcome["replies"],
        "dropped": outcome["verified"]["dropped"],
        "engine": outcome["verified"]["kept_by_type"],
        "even": Counter(row["question_type"] for row in json.loads(Path(even.round(number).data).read_text())),
    }


def lines(found: Sequence[dict[str, Any]]) -> list[Line]:
    """Of weak and other types before the rounds and after each, the engine's beside the even ones."""
    made = []
    for what, named in (("weak", "weak types"), ("others", "other types")):
        for number in range(ROUNDS + 1):
            when = f"after round {number}" if number else "before the rounds"
            ours, even = ([one[arm][number][what] for one in found] for arm in ("engine", "even"))
            beside = {"baseline": round(mean(even), 1), "baseline_name": f"spread evenly, {spread_of(even)}"}
            made.append(
                Line(f"{named} {when}, {spread_of(ours)}", round(mean(ours), 1), "%", **(beside if number else {}))
            )
            if number:
                apart = [one - other for one, other in zip(ours, even, strict=True)]
                made.append(Line(f"… above even, by seed, {spread_of(apart)}", round(mean(apart), 1), "points"))
    for number in range(ROUNDS):
        ours, even = ([share(one["rounds"][number][arm]) for one in found] for arm in ("engine", "even"))
        what = f"weak types' share of the questions of round {number + 1}"
        made.append(Line(what, round(mean(ours), 1), "%", baseline=round(mean(even), 1), baseline_name="spread evenly"))
    return made


def spread_of(values: Sequence[float]) -> str:
    """Over the seeds."""
    return f"s.d. {stdev(values):.1f}" if len(values) > 1 else "one seed"


def share(counts: dict[str, int]) -> float:
    """Of the weak types, in percent."""
    return 100 * sum(counts.get(kind, 0) for kind in WEAK) / sum(counts.values())


def run() -> bool:
    os.environ.setdefault("OPENAI_API_KEY", "scripted")
    sizes = Sizes()
    with scratch_folder("data-engine-digits") as place:
        scratch = Path(place)
        make_models(scratch / "models", CLIP_STEPS, CAPTION_STEPS)
        found = [run_seed(scratch / f"seed{seed}", scratch / "models", sizes, seed, STEPS, QUERIES) for seed in SEEDS]
    details = {
        "teacher": "a script behind HTTP that answers from the truth: no language model",
        "seeds": found, "sizes": asdict(sizes), "queries": QUERIES, "steps": STEPS, "weak": WEAK,
    }  # fmt: skip
    return write_result("data_engine_digits", lines(found), details)


if __name__ == "__main__":
    sys.exit(not run())
