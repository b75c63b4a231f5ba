"""What the demo's captions say: attributes of a scene in words, and four levels of how well a caption fits.

The levels follow UniFilter's definitions (arXiv 2510.15162; exactly one attribute is wrong at level 2), written by
templates where the paper has a language model write them.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# label → how captions call it; the last word is the one that tells the label
PHOTOS: dict[str, tuple[str, ...]] = {
    "astronaut": ("an astronaut", "a spacewoman"),
    "cat": ("a cat", "a tabby"),
    "coffee": ("a cup of coffee", "an espresso"),
    "rocket": ("a rocket", "a spacecraft"),
    "galaxies": ("distant galaxies", "the stars"),
    "retina": ("a retina", "an eyeground"),
    "tissue": ("stained tissue", "some cells"),
    "coins": ("old coins", "some money"),
    "pagoda": ("a pagoda", "a temple"),
    "flower": ("a flower", "a dahlia"),
}
LABELS = (*DIGITS, *PHOTOS)
COLOURS = ("white", "yellow", "red", "green", "blue")
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "brick": ("brick", "a brick wall"),
    "grass": ("grass", "a lawn"),
    "gravel": ("gravel", "pebbles"),
    "plain": ("paper", "an empty board"),
}
STYLES: dict[str, tuple[str, ...]] = {
    "colour": ("colour", "natural"),
    "grey": ("grey", "monochrome"),
    "blue": ("blue", "bluish"),
}

DIGIT_TEMPLATES = (
    "a handwritten {label}, {tone} on {background}",
    "the digit {label} in {tone} on {background}",
    "{label} painted {tone}, {background} behind it",
    "a {tone} {label} on {background}",
)
PHOTO_TEMPLATES = (
    "a {tone} photo of {label}",
    "{label} in {tone} tones",
    "a detail of {label}, {tone} picture",
    "close by: {label}, {tone} tones",
)
VAGUE = (
    "an image",
    "a picture",
    "photo",
    "a nice photo to look at",
    "untitled",
    "image of something",
    "click here for the full size",
    "uploaded from my phone",
    "best price, free shipping",
    "no description",
)

_NAMES = {name.split()[-1]: label for label, names in PHOTOS.items() for name in names}
_NAMES |= {digit: digit for digit in DIGITS}
_NAMES |= {str(value): digit for value, digit in enumerate(DIGITS)}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is seen: the object (`label`), its colour or the photo's style (`tone`), the `background` of a digit."""

    label: str
    tone: str
    background: str | None = None


def describe(attributes: Attributes, rng: random.Random) -> str:
    """A caption that names every attribute, in varied words and lengths."""
    if attributes.background is None:
        name = rng.choice(PHOTOS[attributes.label])
        return rng.choice(PHOTO_TEMPLATES).format(label=name, tone=rng.choice(STYLES[attributes.tone]))
    index = DIGITS.index(attributes.label)
    name = rng.choice((attributes.label, attributes.label, str(index)))
    background = rng.choice(BACKGROUNDS[attributes.background])
    return rng.choice(DIGIT_TEMPLATES).format(label=name, tone=attributes.tone, background=background)


def label_of(caption: str) -> str | None:
    """The object that a caption names first, or None: this is how the demo's small classifier gets its labels."""
    words = re.findall(r"[a-z0-9]+", caption.lower())
    return next((_NAMES[word] for word in words if word in _NAMES), None)


def _other(value: str, choices: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([choice for choice in choices if choice != value])


def _siblings(label: str) -> tuple[str, ...]:
    return DIGITS if label in DIGITS else tuple(PHOTOS)


def _change(attributes: Attributes, names: list[str], rng: random.Random) -> Attributes:
    choices = {
        "label": _siblings(attributes.label),
        "tone": COLOURS if attributes.background else tuple(STYLES),
        "background": tuple(BACKGROUNDS),
    }
    return replace(attributes, **{name: _other(getattr(attributes, name), choices[name], rng) for name in names})


def random_attributes(rng: random.Random) -> Attributes:
    """Attributes of some scene, digits and photographs in equal parts."""
    label = rng.choice(LABELS)
    if label in DIGITS:
        return Attributes(label, rng.choice(COLOURS), rng.choice(tuple(BACKGROUNDS)))
    return Attributes(label, rng.choice(tuple(STYLES)))


def level_caption(attributes: Attributes, level: int, rng: random.Random) -> str:
    """A caption of one of UniFilter's levels for a scene.

    3: all attributes right. 2: exactly one attribute wrong. 1: a vague caption, or two of a digit's three attributes
    wrong. 0: the caption of another object, with whatever attributes.
    """
    if level == 3:
        return describe(attributes, rng)
    names = ["label", "tone", *(["background"] if attributes.background else [])]
    if level == 2:
        return describe(_change(attributes, [rng.choice(names)], rng), rng)
    if level == 1:
        if attributes.background is None or rng.random() < 0.5:
            return rng.choice(VAGUE)
        return describe(_change(attributes, rng.sample(names, 2), rng), rng)
    while (unrelated := random_attributes(rng)).label == attributes.label:
        pass
    return describe(unrelated, rng)
