"""Whether a row can be asked about at all, and whether its image can be read now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfilter.data.image_files import load_image
from vlfilter.data.samples import SampleError, Status

PROBED = 64  # images that are looked for before a model is loaded
MAY_BE_MENDED = (Status.MISSING_IMAGE, Status.CORRUPT_IMAGE, Status.TOO_LARGE)  # looked at again by the next run


def row_problem(row: Mapping[str, Any]) -> SampleError | None:
    """Why a preprocessed row (`image`, `status`, `reason`) has no features, or None. Its image is not opened."""
    if row["status"] != Status.OK:
        return SampleError(Status(row["status"]), row["reason"])
    if row["image"] is None:
        return SampleError(Status.MISSING_IMAGE, "the row is text only")
    return None


def loads(images: str, name: str) -> bool:
    """Whether the image `name` below the folder `images` can be decoded."""
    try:
        load_image(images, name)
    except SampleError:
        return False
    return True
