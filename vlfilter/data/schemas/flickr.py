"""Flickr30k with boxes, in MiniGPT-v2's three forms: a caption with boxes in it, a caption or a phrase to find."""

from __future__ import annotations

from typing import Any

from vlfilter.data.schemas.base import Example, How, Schema, fields, id_of, image_of, lists, text


def _grounded(row: Any, _: How) -> Example:
    row = fields(row)
    return Example(id_of(row, "image_id"), image_of(row, "image_id"), ("",), (text(row, "grounded_caption"),))


def _caption(row: Any, _: How) -> Example:
    row = fields(row)
    return Example(id_of(row, "image_id"), image_of(row, "image_id"), (text(row, "caption"),), (text(row, "output"),))


def _phrase(row: Any, _: How) -> Example:
    row = fields(row)
    phrase = text(row, "phrase")
    said = f"<p>{phrase}</p> {text(row, 'bbox')}"
    return Example(id_of(row, "image_id"), image_of(row, "image_id"), (phrase,), (said,))


FLICKR_GROUNDED = Schema(lists, _grounded, "grounding", "{image}.jpg")
FLICKR_CAPTION = Schema(lists, _caption, "detection", "{image}.jpg")
FLICKR_PHRASE = Schema(lists, _phrase, "detection", "{image}.jpg")
