"""Captions: COCO's as LAVIS has them (Karpathy's split), and TextCaps'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vlfilter.data.schemas.base import Example, How, Schema, fields, id_of, image_of, lists, read_object, text, worded
from vlfilter.errors import VlfilterError


def _coco(row: Any, how: How) -> Example:
    row = fields(row)
    told = row["caption"] if isinstance(row.get("caption"), list) else [text(row, "caption")]
    if not told:
        raise ValueError("caption is an empty list")
    said = tuple(how.text(worded(caption, "caption")) for caption in told)
    return Example(id_of(row, "image_id", "id"), image_of(row, "image"), ("",), said)


def _data(urls: Sequence[str]) -> Iterator[Any]:
    for url in urls:
        rows = read_object(url).get("data")
        if not isinstance(rows, list):
            raise VlfilterError(f"{url} has no list `data` (TextCaps' form).")
        yield from rows


def _textcaps(row: Any, how: How) -> Example:
    row = fields(row)
    return Example(id_of(row, "image_id"), image_of(row, "image_id"), ("",), (how.text(text(row, "caption_str")),))


COCO_CAPTIONS = Schema(lists, _coco, "caption")
TEXTCAPS = Schema(_data, _textcaps, "caption", "{image}.jpg")
