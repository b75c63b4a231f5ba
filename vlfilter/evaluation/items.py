"""A question as a benchmark puts it, before any model's prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from vlfilter.data.aokvqa import LETTERS
from vlfilter.data.image_files import read_image_file
from vlfilter.data.images import decode_image
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.tables import digest


@dataclass(frozen=True, slots=True)
class Item:
    """`key` tells it from the benchmark's others. `message` is what the human says beside the image.

    `candidates` are the answers among which a model chooses; empty where it answers freely. `images` are paths below
    the benchmark's folder, of which the first that exists is taken; `image`, if not empty, is the image's file itself.
    """

    key: str
    message: str
    candidates: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    image: bytes = field(default=b"", repr=False)


def lettered(choices: Sequence[str]) -> tuple[str, ...]:
    """`(A) first`, `(B) second`, …"""
    return tuple(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def item_image(item: Item, folder: str) -> Image.Image:
    """The item's RGB image. Raises `SampleError` when none of its files is there, or it cannot be decoded."""
    return decode_image(item_bytes(item, folder))


def item_bytes(item: Item, folder: str) -> bytes:
    """The item's image file. Raises `SampleError` when none of its files is there."""
    if item.image:
        return item.image
    problem = SampleError(Status.MISSING_IMAGE, "the question names no image")
    for number, path in enumerate(item.images):
        try:
            return read_image_file(folder, path)
        except SampleError as error:
            problem = error if number == 0 else problem
    raise problem


def items_digest(items: Sequence[Item]) -> str:
    """A hash of all that the items say; of files that hold images only the paths count."""
    told = [[item.key, item.message, item.candidates, item.images, _hash(item.image)] for item in items]
    return digest({"items": [[str(value) for value in entry] for entry in told]})


def _hash(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest() if image else ""
