"""Samples on their way through the house: tar members, then decoded content, then one row of a score table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


class Status(StrEnum):
    """What became of a sample; every sample that went in comes out as one row with one of these."""

    OK = "ok"
    CORRUPT_IMAGE = "corrupt_image"
    MISSING_IMAGE = "missing_image"
    MISSING_TEXT = "missing_text"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    FAILED = "failed"


class SampleError(Exception):
    """Why one sample has no score. Becomes a row with this `status` and `reason`; never ends a run."""

    def __init__(self, status: Status, reason: str):
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type[SampleError], tuple[Status, str]]:
        return SampleError, (self.status, self.reason)  # an exception's own way would pass one argument


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file in a tar.

    `name` is the full member name, `extension` what follows the first dot of its base name, in lower case,
    `header` the raw tar header blocks in front of the data (so that a reshard can copy them byte for byte).
    """

    name: str
    extension: str
    data: bytes
    header: bytes = b""


@dataclass(frozen=True, slots=True)
class RawSample:
    """The adjacent members of a tar that share a key, as bytes; `problem` tells why they cannot be used, if so."""

    key: str
    members: tuple[Member, ...]
    problem: SampleError | None = None


@dataclass(frozen=True, slots=True)
class ImageText:
    """An image with its caption. `image` is RGB, `caption` as stored (any length, untrusted)."""

    image: Image.Image
    caption: str


@dataclass(frozen=True, slots=True)
class Interleaved:
    """An OBELICS-style document: position i holds `texts[i]`, or `images[i]` (RGB), or nothing usable.

    `broken[i]` is the reason why the image slot i holds no image although the document has a slot there
    (null object, no data, not decodable); None everywhere else. All three have one length.
    """

    texts: tuple[str | None, ...]
    images: tuple[Image.Image | None, ...]
    broken: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A decoded sample. `content` is None exactly when `problem` says why."""

    key: str
    uid: str
    content: ImageText | Interleaved | None
    problem: SampleError | None = None
