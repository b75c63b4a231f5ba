"""Looks at every row before a GPU is taken: what cannot be trained on is listed by id, with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar

from PIL import Image

from vlfilter.data.annotations import Instruction
from vlfilter.data.images import decode_image
from vlfilter.data.samples import SampleError
from vlfilter.data.storage import join, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.training.conversation_data import ConversationEncoder

SHOWN = 5


class HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=HasId)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is skipped: its place in the file, its id, its image, and why."""

    row: int
    id: str
    image: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """`used` are the places of the usable rows, `lengths` their positions (negative without an image, as LLaVA's
    sampler has it), `supervised` how many positions are learnt in an epoch."""

    rows: int
    used: tuple[int, ...]
    lengths: tuple[int, ...]
    supervised: int
    bad: tuple[BadRow, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DataReport:
        bad = tuple(BadRow(**row) for row in value["bad"])
        return cls(value["rows"], tuple(value["used"]), tuple(value["lengths"]), value["supervised"], bad)


def open_image(folder: str, image: str) -> Image.Image:
    """The RGB image of a row. Raises `ValueError` saying what is wrong with its path or its file."""
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"image {image!r} leaves the image folder")
    try:
        return decode_image(read_bytes(join(folder, image)))
    except FileNotFoundError:
        raise ValueError(f"image {image!r} is missing") from None
    except SampleError as error:
        raise ValueError(f"image {image!r} is broken: {error.reason}") from None
    except OSError as error:
        raise ValueError(f"image {image!r} cannot be read: {error.strerror or error}") from None


def image_problems(
    folder: str, images: Sequence[str], threads: int | None = None, seen: dict[str, str | None] | None = None
) -> dict[str, str]:
    """Each distinct image that cannot be used, with the reason. Every file is decoded, in threads; what `seen` knows
    of an image (by folder and path) is taken from there, and added to it."""
    known = {} if seen is None else seen

    def problem(image: str) -> str | None:
        place = f"{folder}\0{image}"
        if place not in known:
            try:
                open_image(folder, image)
                known[place] = None
            except ValueError as error:
                known[place] = str(error)
        return known[place]

    distinct = list(dict.fromkeys(images))
    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        found = pool.map(problem, distinct)
        return {image: why for image, why in zip(distinct, found, strict=True) if why}


def check_data(
    rows: Sequence[Instruction], images: str, encoder: ConversationEncoder | None = None, *,
    threads: int | None = None, seen: dict[str, str | None] | None = None,
) -> DataReport:  # fmt: skip
    """Which rows can be trained on. `images` is the folder that their paths start from.

    Without an encoder only the images are looked at, and lengths are zero. `seen` as for `image_problems`.
    """

    def measure(row: Instruction) -> tuple[int, int]:
        return (0, 0) if encoder is None else encoder.measure(row)

    return check_rows(rows, images, lambda row: () if row.image is None else (row.image,), measure, threads, seen)


def check_rows(
    rows: Sequence[Row],
    folder: str,
    images_of: Callable[[Row], Sequence[str]],
    measure: Callable[[Row], tuple[int, int]],
    threads: int | None = None,
    seen: dict[str, str | None] | None = None,
) -> DataReport:
    """Which rows of any form can be trained on: those whose images all open and that `measure` does not refuse.

    It gives a row's positions and how many of them are learnt, or raises `ValueError` saying why there are none.
    """
    broken = image_problems(folder, [image for row in rows for image in images_of(row)], threads, seen)
    used, lengths, bad, supervised = [], [], [], 0
    for number, row in enumerate(rows):
        images = images_of(row)
        unusable = next((image for image in images if image in broken), None)
        try:
            if unusable is not None:
                raise ValueError(broken[unusable])
            length, learnt = measure(row)
        except ValueError as error:
            bad.append(BadRow(number, row.id, unusable or next(iter(images), None), str(error)))
            continue
        supervised += learnt
        used.append(number)
        lengths.append(length if images else -length)
    return DataReport(len(rows), tuple(used), tuple(lengths), supervised, tuple(bad))


def refuse_bad(report: DataReport, unreadable: Sequence[str], tolerated: float, origin: str) -> None:
    """Raises `VlfilterError` where more than a fraction `tolerated` of the rows, or all, cannot be used."""
    total, count = report.rows + len(unreadable), len(report.bad) + len(unreadable)
    if report.used and count <= tolerated * total:
        return
    examples = [*unreadable, *(f"row {row.row} ({row.id or 'without id'}): {row.reason}" for row in report.bad)][:SHOWN]
    raise VlfilterError(
        f"{origin}: {count} of {total} rows cannot be used"
        + (f" (bad_rows tolerates {tolerated:.1%})" if report.used else "")
        + "".join(f"\n  {line}" for line in examples)
        + ("\n  …" if count > len(examples) else "")
    )
