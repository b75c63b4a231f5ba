"""Graded captions for the demo's MLM-Filter, and its training by the real recipe.

No teacher is asked: the grades are computed from how each caption or image was spoiled, and said to be so. They are
balanced, written as instructions and learnt as those of a teacher would be. The model starts from the demo's UniFilter,
as the published ones start from a language model that can read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vlfilter.data.annotations import write_instructions
from vlfilter.demo.captions import level_caption
from vlfilter.demo.scenes import Scene, scenes
from vlfilter.demo.seeds import stream
from vlfilter.demo.spoil import blank, blur
from vlfilter.methods.mlm_filter.balancing import balance
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus
from vlfilter.methods.mlm_filter.mixing import mix, quality_instruction
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.conversation import template
from vlfilter.models.presets import build_vlm
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.scoring.mlm_filter_prompts import question_part
from vlfilter.training.launch import FinetuneResult, finetune
from vlfilter.training.settings import train_settings

METRIC = "image_text_matching"
TEMPLATE = "vicuna_v1"
VERSION = 2
PRESET = "mlm_filter_demo"
# what a level's caption is worth to image_text_matching: all right, one attribute wrong, vague, of another object
GRADES = {3: 95, 2: 65, 1: 35, 0: 5}


@dataclass(frozen=True, slots=True)
class GradeSizes:
    """Scenes that are graded (each in every level, a third of them degraded too), and the rows that are learnt."""

    scenes: int = 3000
    rows: int = 12000
    epochs: int = 2


def phrases() -> tuple[str, ...]:
    """What every question says beside its caption. The demo's tokenizer has a token for each of these sentences: two
    layers of 128 cannot learn to read 200 words in half a minute."""
    return (template(TEMPLATE).system.strip(), question_part(METRIC, VERSION))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def grade_pairs(clean: Sequence[Scene], folder: Path, seed: int) -> Iterator[Grade]:
    """Write the images below `folder` and yield a grade a pair, computed from the level of its caption."""
    rng = stream(seed, "grades")
    for i, scene in enumerate(clean):
        (folder / f"{i:05d}.png").write_bytes(_png(scene.image))
        for level, score in GRADES.items():
            caption = level_caption(scene.attributes, level, rng)
            yield _grade(f"{i:05d}-{level}", f"{i:05d}.png", caption, score)
        if i % 3 == 0:
            degraded = rng.choice((blur, blur, blank))(scene.image, rng)
            (folder / f"{i:05d}-spoiled.png").write_bytes(_png(degraded))
            caption = level_caption(scene.attributes, 3, rng)
            yield _grade(f"{i:05d}-spoiled", f"{i:05d}-spoiled.png", caption, GRADES[0])


def _grade(name: str, image: str, caption: str, score: int) -> Grade:
    return Grade(name, image, caption, METRIC, VERSION, score, str(score), GradeStatus.OK, "")


def from_unifilter(folder: Path, unifilter: Path, seed: int) -> None:
    """A checkpoint with UniFilter's tower, projector and body, and a new head over the vocabulary."""
    start = load_vlm(str(unifilter))
    model: VisionLanguageModel = build_vlm(PRESET, start.tokenizer, seed=seed)
    body = {name: tensor for name, tensor in start.model.state_dict().items() if not name.startswith("score.")}
    model.load_state_dict(model.state_dict() | body)
    save_vlm(folder, model, start.tokenizer, start.images)


def train_mlm_filter(folder: Path, unifilter: Path, sizes: GradeSizes, seed: int) -> FinetuneResult:
    """Grade, balance, write the instructions and fine-tune; the model is `folder/run/model`."""
    images = folder / "images"
    images.mkdir(parents=True)
    clean = list(scenes("train", sizes.scenes, seed))
    chosen = balance(grade_pairs(clean, images, seed), sizes.rows, seed)
    rows, _ = mix((quality_instruction(grade) for grade in chosen), (), seed)
    write_instructions(str(folder / "instructions.json"), rows)
    from_unifilter(folder / "start", unifilter, seed)
    settings = {
        "data": str(folder / "instructions.json"), "images": str(images), "output": str(folder / "run"),
        "model": str(folder / "start"), "template": TEMPLATE, "epochs": sizes.epochs, "batch_size": 64,
        "per_device_batch": 32, "learning_rate": 1e-3, "image_mode": "processor", "save_steps": 1000, "seed": seed,
        "processes": 2,
    }  # fmt: skip
    return finetune(train_settings(settings, "mlm_filter_tiny"))
