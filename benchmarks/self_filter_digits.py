"""What Self-Filter selects from handwritten digits of which a known part has wrong answers and many are near-copies.

A tenth of 3,000 conversations is selected: at random, by difficulty alone (gamma 0), by Self-Filter, and by Self-Filter
without the hardest 30 %, with both kinds of features; then a tiny model is tuned on each subset from the same start,
three seeds. Everything runs through the steps of `vlfilter self-filter`. The CLIP is trained on other, clean digits.
The judge is a script behind a local HTTP server: it gives wrong answers 2 to 7 of 10 and others 5 to 10. ImageReward
has random weights, so it is noise.
"""

from __future__ import annotations

import random
import string
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow.parquet as pq

from benchmarks.digits import TEMPLATE, PoolRow, accuracy, digits, make_models, make_pool, row_text
from benchmarks.harness import Line, scratch_folder, write_result
from tests.llm.vendor import VendorServer, prompt_of
from vlfilter.data.annotations import write_instructions
from vlfilter.demo.scenes import Scene
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.methods.self_filter.clip_features import ClipSettings, clip_features
from vlfilter.methods.self_filter.difficulty import measure_difficulty
from vlfilter.methods.self_filter.judging import JudgingSettings, judge_scores
from vlfilter.methods.self_filter.places import SelfFilterPlaces
from vlfilter.methods.self_filter.preprocess import preprocess
from vlfilter.methods.self_filter.rewards import RewardSettings, image_rewards
from vlfilter.methods.self_filter.score_features import ScoreInputs, score_features
from vlfilter.methods.self_filter.selecting import SelectSettings, select_samples
from vlfilter.models.image_reward import build_image_reward, save_image_reward
from vlfilter.training.launch import finetune
from vlfilter.training.settings import train_settings

ROWS, BUDGET, TEST, SEEDS, CLIP_STEPS = 3000, 300, 600, (0, 1, 2), 400
WAYS = {
    "difficulty": SelectSettings(BUDGET, gamma=0.0),
    "self_filter": SelectSettings(BUDGET),
    "capped": SelectSettings(BUDGET, skip_hardest=0.3),
}
NAMES = {
    "random": "random",
    "difficulty_clip": "difficulty only, CLIP features",
    "self_filter_clip": "Self-Filter, CLIP features",
    "capped_clip": "the same, the hardest 30 % left out",
    "difficulty_scores": "difficulty only, three scores",
    "self_filter_scores": "Self-Filter, three scores",
    "capped_scores": "the same, the hardest 30 % left out",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one subset: shares of wrong rows and of rows whose picture is there more than once, and the tuned accuracy."""

    wrong: float
    copies: float
    accuracy: float


def make_features(places: SelfFilterPlaces, folder: Path, models: Path, pool: Sequence[PoolRow], seed: int) -> None:
    """Everything before stage 1, as the commands do it."""
    images = str(folder / "images")
    preprocess(str(folder / "pool.json"), places.preprocess, 1000)
    clip_features(places.preprocess, images, places.clip, ClipSettings(str(models / "clip"), device="cpu", workers=2))
    image_rewards(
        places.preprocess, images, places.image_reward, RewardSettings(str(models / "reward"), device="cpu", workers=2)
    )
    server = VendorServer()
    try:
        server.answer = scripted_judge(pool, seed)
        asker = JudgeSettings("openai:gpt-3.5-turbo-1106", base_url=server.openai_url, cache=str(folder / "answers"))
        with Judge(asker, api_key="scripted") as judge:
            judge_scores(places.preprocess, places.judge, judge, JudgingSettings())
    finally:
        server.stop()
    inputs = ScoreInputs(places.clip, places.image_reward, places.judge)
    score_features(places.preprocess, inputs, places.scores)


def scripted_judge(pool: Sequence[PoolRow], seed: int) -> Callable[[Any], str]:
    """A score from whether the answer is wrong, with noise; equal texts get equal scores, as from a model."""
    wrong: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row in pool:
        text = row_text(row.instruction)
        wrong[text] += row.wrong
        seen[text] += 1

    def answer(body: Any) -> str:
        text = next(line for line in prompt_of(body).splitlines() if line.startswith("Conversation: "))
        text = text.removeprefix("Conversation: ")
        rng = random.Random(f"{seed} {text}")
        return str(rng.randint(2, 7) if rng.random() < wrong[text] / seen[text] else rng.randint(5, 10))

    return answer


def stage1(places: SelfFilterPlaces, folder: Path, models: Path, kind: str, seed: int) -> str:
    """Co-training; returns the model's folder."""
    settings = {
        "data": places.annotations, "images": str(folder / "images"), "output": f"{places.stage1}_{kind}",
        "features": places.clip if kind == "clip" else places.scores, "model": str(models / "start"), **_how(seed),
        "epochs": 1,
    }  # fmt: skip
    return str(finetune(train_settings(settings, "self_filter_tiny")).model)


def select(places: SelfFilterPlaces, model: str, kind: str, settings: SelectSettings, folder: Path) -> list[int]:
    features = places.clip if kind == "clip" else places.scores
    difficulty, picks = str(folder / f"difficulty_{kind}.parquet"), str(folder / "picks.parquet")
    measure_difficulty(model, features, difficulty)
    select_samples(places.clip, difficulty, picks, settings)
    found: list[int] = pq.read_table(picks)["id"].to_pylist()
    return found


def outcome(name: str, ids: Sequence[int], pool: Sequence[PoolRow], folder: Path, models: Path, seed: int,
            test: Sequence[Scene]) -> Outcome:  # fmt: skip
    rows = [pool[i] for i in ids]
    families = Counter(row.family for row in rows)
    write_instructions(str(folder / f"{name}.json"), [row.instruction for row in rows])
    settings = {
        "data": str(folder / f"{name}.json"), "images": str(folder / "images"), "output": str(folder / f"tune_{name}"),
        "model": str(models / "start"), **_how(seed), "epochs": 10,
    }  # fmt: skip
    model = finetune(train_settings(settings, "mlm_filter_tiny")).model
    copies = sum(families[row.family] > 1 for row in rows)
    return Outcome(sum(row.wrong for row in rows) / len(rows), copies / len(rows), accuracy(model, test))


def _how(seed: int) -> dict[str, Any]:
    return {
        "template": TEMPLATE, "image_mode": "processor", "batch_size": 32, "per_device_batch": 32,
        "learning_rate": 1e-3, "max_length": 256, "seed": seed, "save_steps": 10_000,
    }  # fmt: skip


def run_seed(seed: int, scratch: Path, models: Path, test: Sequence[Scene]) -> dict[str, Outcome]:
    folder = scratch / f"seed{seed}"
    pool = make_pool(folder, ROWS, seed)
    places = SelfFilterPlaces.below(str(folder / "run"))
    make_features(places, folder, models, pool, seed)
    chosen = {"random": random.Random(seed).sample(range(ROWS), BUDGET)}
    for kind in ("clip", "scores"):
        model = stage1(places, folder, models, kind, seed)
        for name, settings in WAYS.items():
            chosen[f"{name}_{kind}"] = select(places, model, kind, settings, folder)
    found = {}
    for name in NAMES:
        found[name] = outcome(name, chosen[name], pool, folder, models, seed, test)
        print(f"seed {seed}: {name}: {found[name]}", flush=True)
    return found


def run() -> bool:
    test = list(digits("test", TEST, 0))
    with scratch_folder("self-filter-digits") as place:
        scratch = Path(place)
        models = scratch / "models"
        make_models(models, CLIP_STEPS, 0)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *string.digits]
        words += [f"##{letter}" for letter in string.ascii_lowercase][: 62 - len(words)]
        save_image_reward(models / "reward", *build_image_reward("image_reward_tiny"), "".join(f"{w}\n" for w in words))
        found = [run_seed(seed, scratch, models, test) for seed in SEEDS]
        whole = accuracy(models / "start", test)
    lines = []
    for name in NAMES:
        for what in ("wrong", "copies", "accuracy"):
            values = [100 * getattr(one[name], what) for one in found]
            words_of = {"wrong": "wrong answers", "copies": "near-copies", "accuracy": "accuracy after tuning"}
            beside = [100 * getattr(one["random"], what) for one in found]
            line = Line(f"{NAMES[name]}: {words_of[what]}, mean of {len(SEEDS)} (s.d. {stdev(values):.1f})",
                        round(mean(values), 1), "%", baseline=None if name == "random" else round(mean(beside), 1),
                        baseline_name="random")  # fmt: skip
            lines.append(line)
    details = {
        "rows": ROWS, "budget": BUDGET, "test": TEST, "untrained_accuracy": whole,
        "seeds": [{name: asdict(one[name]) for name in NAMES} for one in found],
    }  # fmt: skip
    return write_result("self_filter_digits", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
