"""The images of generated questions: for the judge, and beside those of an evaluation set."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

from PIL import Image as PilImage

from vlfilter.data.aokvqa import VqaRow
from vlfilter.data.image_files import for_teacher, inside
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import join, read_bytes
from vlfilter.llm.types import Image
from vlfilter.selection.likeness import near_copies, thumbnail

log = logging.getLogger(__name__)


def load(row: VqaRow, images: str) -> Image:
    """The image of a row, as both vendors take it. Raises `SampleError` where none of its names is a file."""
    names = _names(row)
    if not names:
        raise SampleError(Status.MISSING_IMAGE, "the row names no image")
    for name in names:
        if not inside(name):
            raise SampleError(Status.MISSING_IMAGE, f"the path {name!r} leads out of the image folder")
        try:
            return Image(*for_teacher(read_bytes(join(images, name))))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
        except ValueError as error:  # such as a zero byte in the path
            raise SampleError(Status.MISSING_IMAGE, f"{name!r} is no path: {error}") from None
    raise SampleError(Status.MISSING_IMAGE, f"there is no {join(images, names[0])}")


def _names(row: VqaRow) -> list[str]:
    """Where the image may lie: its path, its name in COCO, and names that its id was made from."""
    path = row.image_path or ""
    names = [path, row.file_name, path.rsplit("/", 1)[-1]]
    names += [f"{row.image_id}{ending}" for ending in (".jpg", ".jpeg", ".png", ".webp") if row.image_id is not None]
    return [name for name in dict.fromkeys(names) if name]


def thumbnail_of(image: Image) -> bytes:
    """16 × 16 RGB values."""
    with PilImage.open(io.BytesIO(image.data)) as opened:
        return thumbnail(opened.convert("RGB"))


def copies(thumbnails: Sequence[bytes | None], evaluation: Sequence[VqaRow], images: str) -> dict[int, int]:
    """Place of a thumbnail → place of an evaluation question whose image is nearly the same (resized, recompressed)."""
    mine = [(place, one) for place, one in enumerate(thumbnails) if one is not None]
    theirs: dict[str, tuple[int, bytes]] = {}
    unread = 0
    for place, row in enumerate(evaluation):
        if row.file_name in theirs:
            continue
        try:
            theirs[row.file_name] = (place, thumbnail_of(load(row, images)))
        except SampleError:
            unread += 1
    if unread:
        log.warning("%d images of the evaluation set cannot be read: copies of them are not found", unread)
    others = list(theirs.values())
    pairs = near_copies([image for _, image in others] + [image for _, image in mine])
    found: dict[int, int] = {}
    for later, first in sorted((int(a), int(b)) for a, b in pairs):
        if later >= len(others) > first:
            found.setdefault(mine[later - len(others)][0], others[first][0])
    return found
