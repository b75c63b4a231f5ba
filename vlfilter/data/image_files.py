"""Image files below a folder: which are missing, and what a teacher's API takes of them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import PurePosixPath

from PIL import Image

from vlfilter.data.images import decode_image
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import filesystem, is_local, join, read_bytes

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
MAX_BYTES = 3_500_000  # base64 makes 4/3 of it; the smallest of the vendors' limits is 5 MB
MAX_SIDE = 2048


def missing_paths(paths: Iterable[str], folder: str) -> list[str]:
    """Those of the paths, each once, that are no file below `folder`; absolute paths and `..` count as missing."""
    wanted = dict.fromkeys(paths)
    if is_local(folder):
        root = filesystem(folder)[1]
        return [path for path in wanted if not inside(path) or not os.path.isfile(os.path.join(root, path))]
    fs, root = filesystem(folder)
    there = {name[len(root) :].lstrip("/") for name in fs.find(root)} if fs.exists(root) else set()
    return [path for path in wanted if not inside(path) or str(PurePosixPath(path)) not in there]


def inside(path: str) -> bool:
    """Whether a path from a data file stays below the folder that it is joined to."""
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts


def load_image(folder: str, path: str) -> Image.Image:
    """The RGB image at `path` below `folder`. Raises `SampleError` when it is not there or cannot be decoded."""
    return decode_image(read_image_file(folder, path))


def read_image_file(folder: str, path: str) -> bytes:
    """The file at `path` below `folder`. Raises `SampleError` when it is not there, or `path` leads elsewhere."""
    if not inside(path):
        raise SampleError(Status.MISSING_IMAGE, f"the path {path!r} leads out of the image folder")
    try:
        return read_bytes(join(folder, path))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise SampleError(Status.MISSING_IMAGE, f"there is no image {path}") from None
    except ValueError as error:  # such as a zero byte in the path
        raise SampleError(Status.MISSING_IMAGE, f"{path!r} is no path: {error}") from None


def for_teacher(data: bytes) -> tuple[bytes, str]:
    """(bytes, media type) that both vendors take: the file as it is, or a JPEG of at most 2048 pixels a side where its
    format or size is none that they take. Raises `SampleError` when it cannot be decoded."""
    image = decode_image(data)  # a broken file should not be paid for
    with Image.open(io.BytesIO(data)) as opened:
        media_type = MEDIA_TYPES.get(opened.format or "")
    if media_type and len(data) <= MAX_BYTES:
        return data, media_type
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue(), "image/jpeg"
