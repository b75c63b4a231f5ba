"""Defects planted in the demo's pool, so that the truth about every sample is known.

Somewhat less than half of the pool is spoiled, mostly by wrong captions: these are what filtering web data is about
and what hurts a model trained on it. The shares, the keep rate and the classifier's settings were set once and not
tuned. How hard the scenes are (size of the digits, contrast, templates) and how long the models train was tuned, on
images of the pool, until both models learned something within half a minute; the test set was never used for that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image, ImageFilter

from vlfilter.demo.captions import VAGUE, describe
from vlfilter.demo.scenes import Scene
from vlfilter.demo.seeds import stream


class Kind(StrEnum):
    """What was done to a sample. `broken` ones cannot be read at all and get a reason instead of a score."""

    CLEAN = "clean"
    WRONG_CAPTION = "wrong caption"
    VAGUE_CAPTION = "vague caption"
    BLURRED = "blurred image"
    BLANK = "blank image"
    BROKEN = "broken"


SHARES: dict[Kind, float] = {
    Kind.WRONG_CAPTION: 0.27,
    Kind.VAGUE_CAPTION: 0.06,
    Kind.BLURRED: 0.07,
    Kind.BLANK: 0.05,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """An image with a caption, and what was done to it. `label` is what the untouched image shows."""

    image: Image.Image
    caption: str
    kind: Kind
    label: str
    source: str


def blur(image: Image.Image, rng: random.Random) -> Image.Image:
    """Out of focus, by a tenth of the width: nothing of a digit can be read."""
    return image.filter(ImageFilter.GaussianBlur(image.width * rng.uniform(0.09, 0.13)))


def blank(image: Image.Image, rng: random.Random) -> Image.Image:
    """One shade of grey, as of images that failed to load."""
    return Image.new("RGB", image.size, (rng.randint(0, 255),) * 3)


def plant(scene: Scene, kind: Kind, others: Sequence[Scene], rng: random.Random) -> Pair:
    """A pair with one defect. A wrong caption is the right caption of one of `others` that shows another object."""
    image, caption = scene.image, describe(scene.attributes, rng)
    if kind is Kind.WRONG_CAPTION:
        while (other := rng.choice(others)).attributes.label == scene.attributes.label:
            pass
        caption = describe(other.attributes, rng)
    elif kind is Kind.VAGUE_CAPTION:
        caption = rng.choice(VAGUE)
    elif kind is Kind.BLURRED:
        image = blur(image, rng)
    elif kind is Kind.BLANK:
        image = blank(image, rng)
    return Pair(image, caption, kind, scene.attributes.label, scene.source)


def spoil(scenes: Sequence[Scene], seed: int) -> list[Pair]:
    """Captions for all scenes, `SHARES` of them spoiled, in a random order that the seed decides."""
    rng = stream(seed, "spoil")
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(share * len(scenes)))]
    kinds += [Kind.CLEAN] * (len(scenes) - len(kinds))
    rng.shuffle(kinds)
    pairs = [plant(scene, kind, scenes, rng) for scene, kind in zip(scenes, kinds, strict=True)]
    rng.shuffle(pairs)
    return pairs
