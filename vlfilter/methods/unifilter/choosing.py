"""The images that the teacher will write about, in a folder, and on which side of the split each of them stands.

The side is decided before a text is written, by the images alone: all four texts of an image, every set that holds it,
and all that looks nearly the same stand on one side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfilter.data.image_files import missing_paths
from vlfilter.data.quality_rows import Kind
from vlfilter.data.quotas import priority
from vlfilter.data.receipts import finished, write_receipt
from vlfilter.errors import VlfilterError
from vlfilter.methods.unifilter.items import SIDES, Item, Side, read_items, write_items
from vlfilter.methods.unifilter.picking import NAMES, Picked, pick
from vlfilter.methods.unifilter.sources import Source, open_source
from vlfilter.selection.likeness import connected, near_copies

CODE_VERSION = 1
MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class ChoiceSettings:
    """How many images get captions and how many sets get documents, and from where (shards or a folder of images).

    Documents in shards keep their own images, at most `MAX_SET`; of pairs or files, `set_size` alike make a set.
    `validation` is the share of images that the classifier is measured on.
    """

    caption_source: str | Sequence[str] | None = None
    captions: int = 10_000
    document_source: str | Sequence[str] | None = None
    documents: int = 10_000
    set_size: int = 3
    validation: float = 0.05
    seed: int = 0
    image_prefix: str = "synthetic"


def choose_images(images: str, output: str, settings: ChoiceSettings) -> dict[str, Any]:
    """Write the chosen images below `images` and the list of items `output`; returns the summary.

    What cannot be used is counted by status and replaced by the next. Done already: nothing is read. Raises
    `VlfilterError` where a source has no usable image, or where a side of the split would stay empty.
    """
    sources: dict[Kind, Source] = {}
    if settings.caption_source:
        sources["caption"] = open_source(settings.caption_source)
    if settings.document_source:
        sources["interleaved"] = open_source(settings.document_source)
    if not sources:
        raise VlfilterError("no images were given: name shards or a folder for captions, for documents, or for both.")
    parts = {
        "code": CODE_VERSION,
        "sources": {kind: source.parts() for kind, source in sources.items()},
        "wanted": [settings.captions, settings.documents, settings.set_size],
        "validation": settings.validation,
        "seed": settings.seed,
        "image_prefix": settings.image_prefix,
    }
    known = finished(output, parts)
    if known is not None and not missing_paths((p for item in read_items(output) for p in item.images), images):
        return known
    chosen: list[Picked] = []
    summary: dict[str, Any] = {"kinds": {}, "unusable": []}
    for kind, source in sources.items():
        wanted = settings.captions if kind == "caption" else settings.documents
        found, told = pick(source, kind, wanted, settings.set_size, settings.seed, images, settings.image_prefix)
        if not found:
            raise VlfilterError(f"no image for {NAMES[kind]} can be used: {_why(told)}")
        chosen += found
        summary["unusable"] += told.pop("unusable")
        summary["kinds"][kind] = told
    items = _with_sides(chosen, settings)
    for kind in sources:
        counts = Counter(item.side for item in items if item.kind == kind)
        summary["kinds"][kind]["sides"] = {side: counts[side] for side in SIDES}
        for side in SIDES:
            if not counts[side]:
                raise VlfilterError(
                    f"of {counts.total()} images or sets for {NAMES[kind]}, none falls into {side} (validation share "
                    f"{settings.validation:g}): take more images, or another share."
                )
    write_items(output, items)
    summary["unusable"] = summary["unusable"][:MAX_LISTED]
    return write_receipt(output, parts, summary)


def _why(told: dict[str, Any]) -> str:
    if told["unusable"]:
        return str(told["unusable"][0]["reason"])
    if told["samples"]:
        return f"of {told['samples']} samples none fits ({told['problems'] or 'too few for one set'})"
    return "the source holds no samples"


def _with_sides(chosen: Sequence[Picked], settings: ChoiceSettings) -> list[Item]:
    """The side of each group of like images by a lot over its first path, so that more images later move none across
    but those that are nearly the same as a new one."""
    thumbnails = {picture.path: picture.thumbnail for one in chosen for picture in one.pictures}
    paths = sorted(thumbnails)
    number = {path: place for place, path in enumerate(paths)}
    sets = [[number[one.pictures[0].path], number[other.path]] for one in chosen for other in one.pictures[1:]]
    copies = near_copies([thumbnails[path] for path in paths])
    first = connected(len(paths), np.concatenate([copies, np.array(sets, np.int64).reshape(-1, 2)]))

    def side(one: Picked) -> Side:
        lot = priority(settings.seed, "side", paths[first[number[one.pictures[0].path]]])
        return "validation" if lot < settings.validation * 2**64 else "train"

    return [
        Item(one.id, one.kind, tuple(picture.path for picture in one.pictures), one.origin, side(one)) for one in chosen
    ]
