"""The demo's images, from files that ship with scikit-learn and scikit-image: nothing is downloaded.

A scene is a handwritten digit pasted on a texture, or a piece of a photograph. The splits share no pixel of a source:
digits are split by their index, photographs and textures by tiles of a grid.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from vlfilter.demo.captions import BACKGROUNDS, COLOURS, DIGITS, PHOTOS, STYLES, Attributes
from vlfilter.demo.seeds import stream
from vlfilter.errors import VlfilterError

Split = Literal["train", "pool", "test"]
SIZE = 64  # pixels, width and height
GRID = 4
# which split a tile belongs to, by (column + row) mod 4: every row and every column has tiles of each split
TILE_SPLIT: tuple[Split, ...] = ("train", "pool", "train", "test")
DIGIT_SPLIT: tuple[Split, ...] = ("train", "pool", "train", "pool", "test")
FLAT = 4.0  # mean step of grey between neighbours; below it a piece shows nothing (sky, haze) and is passed over

_SKIMAGE = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "galaxies": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "tissue": "ihc.png",
    "coins": "coins.png",
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
}
_SKLEARN = {"pagoda": "china.jpg", "flower": "flower.jpg"}
_GREY_PHOTOS = ("coins",)
_INK = {
    "white": (250, 250, 250),
    "yellow": (250, 220, 40),
    "red": (235, 50, 40),
    "green": (60, 210, 70),
    "blue": (70, 120, 250),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One image (RGB, `SIZE` × `SIZE`), what is on it, and the piece of source it was made from."""

    attributes: Attributes
    image: Image.Image
    source: str


@cache
def photograph(name: str) -> Image.Image:
    """A photograph or texture by the demo's name for it, RGB. Raises `VlfilterError` when its library is missing."""
    try:
        if name in _SKLEARN:
            resource = files("sklearn") / "datasets" / "images" / _SKLEARN[name]
        else:
            resource = files("skimage") / "data" / _SKIMAGE[name]
        with resource.open("rb") as file:
            return Image.open(file).convert("RGB")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise VlfilterError(
            f"the demo needs the images of scikit-learn and scikit-image ({error}): install vlfilter[demo]."
        ) from error


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: images (n, 8, 8) uint8 and their values (n,)."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise VlfilterError(f"the demo needs scikit-learn's digits ({error}): install vlfilter[demo].") from error
    data = load_digits()
    return (data.images * (255 / 16)).astype(np.uint8), data.target


@cache
def _digit_indices(split: Split, value: int) -> tuple[int, ...]:
    _, targets = _digits()
    return tuple(int(i) for i in np.flatnonzero(targets == value) if DIGIT_SPLIT[int(i) % len(DIGIT_SPLIT)] == split)


def tiles(name: str, split: Split) -> list[tuple[int, int, int, int]]:
    """The tiles of a photograph that belong to a split: (left, top, right, bottom) in pixels."""
    width, height = photograph(name).size
    w, h = width // GRID, height // GRID
    return [
        (c * w, r * h, (c + 1) * w, (r + 1) * h)
        for r in range(GRID)
        for c in range(GRID)
        if TILE_SPLIT[(c + r) % GRID] == split
    ]


def _piece(name: str, split: Split, rng: random.Random, least_detail: float) -> tuple[Image.Image, str]:
    """A square crop of three quarters of a tile or more, flipped at random, at `SIZE`; and where it was cut."""
    piece, source = Image.new("RGB", (SIZE, SIZE)), ""
    for _ in range(20):
        left, top, right, bottom = rng.choice(tiles(name, split))
        shortest = min(right - left, bottom - top)
        side = rng.randint(3 * shortest // 4, shortest)
        x, y = rng.randint(left, right - side), rng.randint(top, bottom - side)
        box = (x, y, x + side, y + side)
        piece = photograph(name).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        source = f"{name}:{x},{y},{x + side},{y + side}"
        if np.abs(np.diff(np.asarray(piece.convert("L"), dtype=np.int16))).mean() >= least_detail:
            break
    return (ImageOps.mirror(piece) if rng.random() < 0.5 else piece), source


def _jitter(image: Image.Image, rng: random.Random) -> Image.Image:
    """Brightness and contrast within ±15 %."""
    gain, offset = rng.uniform(0.85, 1.15), rng.uniform(-18, 18)
    return image.point([min(255, max(0, round(128 + (v - 128) * gain + offset))) for v in range(256)] * 3)


def photo_scene(label: str, split: Split, rng: random.Random) -> Scene:
    """A piece of a photograph in its own colours, in grey or in blue tones."""
    image, source = _piece(label, split, rng, FLAT)
    tone = rng.choice(("grey", "blue") if label in _GREY_PHOTOS else tuple(STYLES))
    if tone != "colour":
        image = ImageOps.grayscale(image)
        image = ImageOps.colorize(image, (0, 0, 40), (170, 200, 255)) if tone == "blue" else image.convert("RGB")
    return Scene(Attributes(label, tone), _jitter(image, rng), source)


def digit_scene(label: str, split: Split, rng: random.Random) -> Scene:
    """A digit in coloured ink, of varied size, place and slant, on a darkened texture."""
    index = rng.choice(_digit_indices(split, DIGITS.index(label)))
    tone, background = rng.choice(COLOURS), rng.choice(tuple(BACKGROUNDS))
    if background == "plain":
        ground = Image.new("RGB", (SIZE, SIZE), (rng.randint(30, 90),) * 3)
    else:
        texture, _ = _piece(background, split, rng, 0.0)
        ground = texture.point([round(16 + 0.3 * v) for v in range(256)] * 3)
    side = rng.randint(SIZE * 3 // 4, SIZE * 15 // 16)
    glyph = Image.fromarray(_digits()[0][index]).resize((side, side), Image.Resampling.BICUBIC)
    glyph = glyph.rotate(rng.uniform(-6, 6), Image.Resampling.BILINEAR)
    ink = Image.new("RGB", (side, side), _INK[tone])
    ground.paste(ink, (rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)), glyph)
    return Scene(Attributes(label, tone, background), _jitter(ground, rng), f"digit:{index}")


def scenes(split: Split, count: int, seed: int) -> Iterator[Scene]:
    """`count` scenes of a split, digits and photographs in equal parts, the same ones for the same seed."""
    rng = stream(seed, f"{split} scenes")
    labels = (*DIGITS, *PHOTOS)
    for i in range(count):
        label = labels[i % len(labels)]
        yield digit_scene(label, split, rng) if label in DIGITS else photo_scene(label, split, rng)
