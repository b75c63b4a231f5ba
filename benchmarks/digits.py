"""A small real instruction set: handwritten digits, with a known part of wrong answers and many near-duplicates.

Scenes are the demo's: scikit-learn's digits in coloured ink on textures. A row asks for digit, colour and ground, in
three turns. Training, pool and test share no handwritten digit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vlfilter.data.annotations import Instruction, Turn, write_instructions
from vlfilter.demo.captions import BACKGROUNDS, COLOURS, DIGITS, Attributes
from vlfilter.demo.scenes import Scene, Split, digit_scene
from vlfilter.demo.seeds import stream
from vlfilter.methods.self_filter.conversations import conversation_text
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.clip import pad_ids, save_clip
from vlfilter.models.clip_text import HfCaptions
from vlfilter.models.conversation import template
from vlfilter.models.preprocess import normalise, to_pixels
from vlfilter.models.presets import build_clip, build_vlm, clip_images
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer
from vlfilter.training.clip import ClipBatch, train_clip
from vlfilter.training.conversation_data import IGNORED, ConversationEncoder
from vlfilter.training.loop import LoopSettings

TEMPLATE = "vicuna_v1"
QUESTIONS = ("Which digit is it?", "Which colour has it?", "What is it written on?")
WRONG, COPIES, FAMILY = 0.2, 0.3, 20  # shares of the pool; how many near-copies one scene has


@dataclass(frozen=True, slots=True)
class PoolRow:
    """`wrong` when the digit is not what the answer says; `family` names the scene that near-copies share."""

    instruction: Instruction
    wrong: bool
    family: int


def digits(split: Split, count: int, seed: int) -> Iterator[Scene]:
    """Scenes of all ten digits in turn."""
    rng = stream(seed, f"{split} digits")
    for i in range(count):
        yield digit_scene(DIGITS[i % len(DIGITS)], split, rng)


def instruction(name: str, image: str, attributes: Attributes) -> Instruction:
    answers = (attributes.label, attributes.tone, str(attributes.background))
    turns = []
    for i, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True)):
        turns += [Turn("human", question if i else f"<image>\n{question}"), Turn("gpt", answer)]
    return Instruction(name, tuple(turns), image)


def row_text(row: Instruction) -> str:
    """As Self-Filter hands a conversation to CLIP."""
    return conversation_text(row.to_json()["conversations"])


def make_pool(folder: Path, count: int, seed: int) -> list[PoolRow]:
    """Write `count` images and the annotations `pool.json` into a folder, rows in random order."""
    rng = stream(seed, "pool rows")
    copies = int(count * COPIES) // FAMILY
    singles = count - copies * FAMILY
    wrong = set(rng.sample(range(singles), int(count * WRONG)))
    families = list(range(singles)) + [singles + i for i in range(copies) for _ in range(FAMILY)]
    scenes = list(digits("pool", singles + copies, seed))
    rng.shuffle(families)
    (folder / "images").mkdir(parents=True)
    rows = []
    for place, family in enumerate(families):
        scene, name = scenes[family], f"{place:05d}.png"
        image = _shaken(scene.image, rng) if family >= singles else scene.image
        image.save(folder / "images" / name)
        told = scene.attributes
        if family in wrong:
            told = replace(told, label=rng.choice([digit for digit in DIGITS if digit != told.label]))
        rows.append(PoolRow(instruction(str(place), name, told), family in wrong, family))
    write_instructions(str(folder / "pool.json"), [row.instruction for row in rows])
    return rows


def _shaken(image: Image.Image, rng: random.Random) -> Image.Image:
    """The same picture to people: a little noise on every pixel."""
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 3, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def make_models(folder: Path, steps: int, seed: int) -> None:
    """As `make_towers`, for the rows of the instruction set."""
    clean = list(digits("train", 3000, seed))
    phrases = (*(f"USER: {question} ASSISTANT: " for question in QUESTIONS), template(TEMPLATE).system.strip())
    texts = [row_text(instruction("", "", scene.attributes)) for scene in clean]
    make_towers(folder, clean, texts, train_tokenizer(texts, 500, phrases=(*phrases, *QUESTIONS)), steps, seed)


def make_towers(
    folder: Path, clean: Sequence[Scene], texts: Sequence[str], tokenizer: TextTokenizer, steps: int, seed: int
) -> None:
    """`clip`: trained on scenes and their texts, digits against digits alike but for the number. `start`: a
    vision-language model with its tower, and everything else random."""
    settings = clip_images("clip_demo")
    clip = build_clip("clip_demo", tokenizer, seed=seed)
    write = HfCaptions(tokenizer, int(clip.config.text_config.max_position_embeddings), False)
    ids = [write(text)[0] for text in texts]
    pixels = normalise(torch.from_numpy(np.stack([to_pixels(scene.image, settings) for scene in clean])), settings)
    alike = [
        [i for i, scene in enumerate(clean) if (scene.attributes.tone, scene.attributes.background) == (tone, ground)]
        for tone in COLOURS for ground in BACKGROUNDS
    ]  # fmt: skip

    def batches() -> Iterator[ClipBatch]:
        rng = stream(seed, "clip batches")
        while True:
            for choices in (range(len(clean)), rng.choice(alike)):
                picked = rng.choices(choices, k=128)
                yield ClipBatch(pixels[picked], pad_ids([ids[i] for i in picked], write.pad))

    train_clip(clip, batches(), LoopSettings(steps, 1e-3))
    save_clip(folder / "clip", clip, tokenizer, settings)
    model = build_vlm("mlm_filter_demo", tokenizer, seed=seed)
    model.vision.model.load_state_dict(clip.vision_model.state_dict())
    save_vlm(folder / "start", model, tokenizer, settings)


def accuracy(model: Path, scenes: Sequence[Scene]) -> float:
    """Share of scenes whose digit the model finds the likeliest of ten as the answer to the first question."""
    loaded = load_vlm(str(model), head="lm")
    encoder = ConversationEncoder(
        loaded.tokenizer, template(TEMPLATE), loaded.tokenizer.automatic_bos, loaded.model.image_tokens, 512
    )
    names = _first_tokens(encoder)
    right = 0
    with torch.inference_mode():
        for start in range(0, len(scenes), 100):
            some = scenes[start : start + 100]
            asked = [torch.tensor(_question(encoder)) for _ in some]
            pixels = np.stack([to_pixels(scene.image, loaded.images) for scene in some])
            images = list(normalise(torch.from_numpy(pixels), loaded.images).split(1))
            found = loaded.model(asked, images)[:, names].argmax(-1).tolist()
            right += sum(DIGITS[i] == scene.attributes.label for i, scene in zip(found, some, strict=True))
    return right / len(scenes)


def _question(encoder: ConversationEncoder) -> list[int]:
    """The tokens up to the first answer."""
    tokens = encoder.encode(instruction("", "x", Attributes("zero", "red", "grass")))
    return tokens.ids[: next(i for i, label in enumerate(tokens.labels) if label != IGNORED)]


def _first_tokens(encoder: ConversationEncoder) -> list[int]:
    """Of every digit's name, as it follows the question. Distinct, or the accuracy would mean nothing."""
    place = len(_question(encoder))
    found = [encoder.encode(instruction("", "x", Attributes(name, "red", "grass"))).ids[place] for name in DIGITS]
    assert len(set(found)) == len(DIGITS)
    return found
