"""RefCOCO, RefCOCO+ and RefCOCOg: where is what a sentence speaks of (refer), or what is there (identify)?

A data set is two files: COCO's `instances.json` with the boxes, and `refs(unc).p` (RefCOCOg: `refs(umd).p`), which
Python 2 has pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlfilter.data.schemas.base import Example, How, LeftOutError, Schema, fields, id_of, image_of, read_object, text
from vlfilter.data.schemas.plain_pickle import read_plain_pickle
from vlfilter.data.schemas.text import box_text
from vlfilter.errors import VlfilterError

SPLIT = "train"
FILES = ("instances.json", "refs(unc).p")


def _refs(urls: Sequence[str]) -> Iterator[Any]:
    """A reference at a time, with its box and its image's row."""
    told, pickled = urls
    found = read_object(told)
    images, boxes = (_by_id(found, name, told) for name in ("images", "annotations"))
    refs = read_plain_pickle(pickled)
    if not isinstance(refs, list):
        raise VlfilterError(f"{pickled} holds no list of references.")
    for ref in refs:
        image, box = (id_of(ref, name) if isinstance(ref, Mapping) else "" for name in ("image_id", "ann_id"))
        yield {"ref": ref, "image": images.get(image), "box": boxes.get(box)}


def _by_id(found: dict[str, Any], name: str, url: str) -> dict[str, Any]:
    rows = found.get(name)
    if not isinstance(rows, list):
        raise VlfilterError(f"{url} has no list `{name}` (COCO's form).")
    return {id_of(row, "id"): row for row in rows if isinstance(row, Mapping)}


def _told(row: Any, how: How) -> tuple[Mapping[str, Any], tuple[str, ...], str]:
    """The reference, its sentences and its box."""
    ref = fields(row["ref"])
    if ref.get("split") != SPLIT:
        raise LeftOutError(f"it is of split {ref.get('split')}, not {SPLIT}")
    for name, of in (("image", "image_id"), ("box", "ann_id")):
        if row[name] is None:
            raise ValueError(f"its {of} {ref.get(of)!r} is not in instances.json")
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or not sentences:
        raise ValueError("it has no sentences")
    said = tuple(how.text(text(fields(sentence), "raw")) for sentence in sentences)
    image = row["image"]
    return ref, said, box_text(row["box"].get("bbox"), image.get("width"), image.get("height"), how.mode)


def _refer(row: Any, how: How) -> Example:
    ref, said, box = _told(row, how)
    return Example(id_of(ref, "ref_id"), image_of(ref, "image_id"), said, (box,))


def _identify(row: Any, how: How) -> Example:
    ref, said, box = _told(row, how)
    return Example(id_of(ref, "ref_id"), image_of(ref, "image_id"), (box,), said)


NAME = "COCO_train2014_{image:0>12}.jpg"
REFCOCO = Schema(_refs, _refer, "refer", NAME, FILES)
INV_REFCOCO = Schema(_refs, _identify, "identify", NAME, FILES)
