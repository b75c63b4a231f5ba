"""Candidates → images that can be used, in the folder: the first by lot, those of no use replaced by the next."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vlfilter.data.images import decode_image
from vlfilter.data.quality_rows import Kind
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import join, write_bytes
from vlfilter.methods.unifilter.grouping import similar_sets
from vlfilter.methods.unifilter.sources import Candidate, Source
from vlfilter.selection.likeness import thumbnail

MAX_SET = 10  # images of one document; the published scoring script skips documents with more
MIN_SIDE = 16  # pixels: icons, rules and tracking pixels show nothing to write about
FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
NAMES: dict[Kind, str] = {"caption": "captions", "interleaved": "documents"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """A file below the image folder."""

    path: str
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Picked:
    """What becomes an item; `caption` is that of the source, if it has one."""

    id: str
    kind: Kind
    pictures: tuple[Picture, ...]
    origin: str
    caption: str = ""


def pick(
    source: Source, kind: Kind, wanted: int, set_size: int, seed: int, images: str, prefix: str
) -> tuple[list[Picked], dict[str, Any]]:
    """The first `wanted` candidates by lot, and what is to be said of the others: counts, and `unusable` with reasons.

    Images are written below `images`; those that turn out unusable make room for the next.
    """
    offer = source.offer(kind, wanted + wanted // 10 + 10, set_size, seed)
    in_sets = kind == "interleaved" and bool(offer.candidates) and not offer.candidates[0].document
    target = wanted * set_size if in_sets else wanted
    problems = Counter(offer.problems)
    unusable: list[dict[str, str]] = []
    taken: dict[int, Picked] = {}
    seen: set[str] = set()
    start = 0
    while len(taken) < target and start < len(offer.candidates):
        batch = offer.candidates[start : start + target - len(taken)]
        places = {id(candidate): start + i for i, candidate in enumerate(batch)}
        start += len(batch)
        fetched: dict[int, Picked | SampleError] = {}
        for candidate, data in source.fetch(batch):
            fetched[places[id(candidate)]] = _keep(candidate, data, kind, images, prefix)
        for place, result in sorted(fetched.items()):
            same = isinstance(result, Picked) and {result.id, *_only(result)} & seen
            if isinstance(result, SampleError) or same:
                error = result if isinstance(result, SampleError) else _DUPLICATE
                problems[error.status] += 1
                unusable.append({"origin": offer.candidates[place].origin, "reason": error.reason})
            else:
                taken[place] = result
                seen |= {result.id, *_only(result)}
    found = [taken[place] for place in sorted(taken)]
    if in_sets:
        found = _sets(found, set_size)[:wanted]
    if len(found) < wanted:
        log.warning("only %d of the %d %s asked for can be written", len(found), wanted, NAMES[kind])
    told = {
        "chosen": len(found),
        "wanted": wanted,
        "samples": offer.samples,
        "problems": dict(sorted(problems.items())),
        "broken_shards": offer.broken,
        "unusable": unusable,
    }
    return found, told


_DUPLICATE = SampleError(Status.UNSUPPORTED, "the same image, or a sample with the same uid, is chosen already")


def _only(found: Picked) -> set[str]:
    """The image that a caption's item is, by its content; documents may share images."""
    return {found.pictures[0].path} if len(found.pictures) == 1 else set()


def _keep(
    candidate: Candidate, data: list[bytes] | SampleError, kind: Kind, images: str, prefix: str
) -> Picked | SampleError:
    """The candidate with its images written; the reason why not as a `SampleError`."""
    if isinstance(data, SampleError):
        return data
    pictures: list[Picture] = []
    problem = SampleError(Status.MISSING_IMAGE, "it has no image")
    for file in data:
        try:
            picture = _write(file, images, prefix)
        except SampleError as error:
            problem = error
            continue
        if picture.path not in {other.path for other in pictures}:  # a page often repeats its logo
            pictures.append(picture)
    if not pictures:
        return problem
    return Picked(candidate.id, kind, tuple(pictures[:MAX_SET]), candidate.origin, candidate.caption)


def _write(data: bytes, images: str, prefix: str) -> Picture:
    """`PREFIX/ab/HASH.jpg`: named by content, so that no name from the data reaches the file system."""
    image = decode_image(data)
    if min(image.size) < MIN_SIDE:
        raise SampleError(Status.UNSUPPORTED, f"the image is only {image.width} x {image.height} pixels")
    name = hashlib.sha256(data).hexdigest()[:32]
    path = f"{prefix.strip('/')}/{name[:2]}/{name}.{_extension(data)}"
    write_bytes(join(images, path), data)
    return Picture(path, thumbnail(image))


def _extension(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as opened:
        return FORMATS[opened.format or "JPEG"]


def _sets(found: Sequence[Picked], size: int) -> list[Picked]:
    """Single images → sets of those whose captions are alike."""
    made = []
    for places in similar_sets([one.caption for one in found], size):
        members = [found[place] for place in places]
        pictures = tuple(picture for member in members for picture in member.pictures)
        made.append(Picked(members[0].id, members[0].kind, pictures, " + ".join(member.origin for member in members)))
    return made
