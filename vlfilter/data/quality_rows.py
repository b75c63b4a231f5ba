"""Quality rows: image-text content with one of four levels, in UniFilter's published format.

A JSON list of `{"image": "path", "text": "<image>\\n…", "label": 0}`; a document's `image` is a list of paths, one for
each `<image>` of its text, in order (arXiv 2510.15162 and its published training script).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError

PLACEHOLDER = "<image>"
SEPARATOR = "\n\n"
LABELS = (0, 1, 2, 3)
WORDS = {"negative": 0, "positive": 1}  # the published script's labels of two levels

Kind = Literal["caption", "interleaved"]
KINDS: tuple[Kind, ...] = ("caption", "interleaved")


@dataclass(frozen=True, slots=True)
class QualityRow:
    """`images` are paths below an image folder, as many as `text` has `<image>`; `label` is 0 to 3, 3 the best.

    `id` is the row's own where the file has one, else its place in the file.
    """

    id: str
    images: tuple[str, ...]
    text: str
    label: int
    kind: Kind

    def to_json(self) -> dict[str, Any]:
        image: Any = self.images[0] if self.kind == "caption" else list(self.images)
        return {"image": image, "text": self.text, "label": self.label}


def caption_text(caption: str) -> str:
    """A row's text for an image and its caption, in which a literal `<image>` becomes the word."""
    return f"{PLACEHOLDER}\n{caption.replace(PLACEHOLDER, 'image')}"


def document_text(slots: Iterable[str | None]) -> str:
    """A row's text for a document: None is an image; a literal `<image>` in a text becomes `<image-placeholder>`."""
    written = (PLACEHOLDER if slot is None else slot.replace(PLACEHOLDER, "<image-placeholder>") for slot in slots)
    return SEPARATOR.join(written)


def document_slots(row: QualityRow) -> tuple[list[str | None], list[str | None]]:
    """`texts` and `images` of a row as OBELICS has them: at each place one of the two, the other None."""
    texts: list[str | None] = []
    images: list[str | None] = []
    paths = iter(row.images)
    for index, piece in enumerate(row.text.split(PLACEHOLDER)):
        if index:
            texts.append(None)
            images.append(next(paths))
        if words := piece.strip("\n"):
            texts.append(words)
            images.append(None)
    return texts, images


def parse_quality_row(row: Any, place: int) -> QualityRow:
    """One row of a file. Raises `ValueError` saying what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("the row is not an object")
    image, text = row.get("image"), row.get("text")
    images = [image] if isinstance(image, str) else image
    if not isinstance(images, list) or not images:
        raise ValueError("it has no image")
    if not all(isinstance(path, str) and path for path in images):
        raise ValueError("image is neither a path nor a list of paths")
    if not isinstance(text, str):
        raise ValueError("it has no text")
    slots = text.count(PLACEHOLDER)
    if slots != len(images):
        raise ValueError(f"its text has {slots} {PLACEHOLDER} for {len(images)} images")
    if not text.replace(PLACEHOLDER, "").strip():
        raise ValueError(f"its text is nothing but {PLACEHOLDER}")
    kind: Kind = "caption" if isinstance(image, str) else "interleaved"
    return QualityRow(str(row.get("id", place)), tuple(images), text, _label(row.get("label")), kind)


def _label(value: Any) -> int:
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in LABELS:
        raise ValueError(f"its label {value!r} is none of {', '.join(map(str, LABELS))}")
    return int(value)


def read_quality_rows(url: str) -> tuple[list[QualityRow], list[str]]:
    """The rows of a file, and for each row that cannot be used a line that says why.

    Raises `VlfilterError` when the file is missing, is no JSON list, or mixes numbers with the words of two levels.
    """
    try:
        rows = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there are no rows {url}.") from None
    except ValueError as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from error
    if not isinstance(rows, list):
        raise VlfilterError(f"{url} is not a JSON list of rows (objects with image, text and label).")
    if len({isinstance(row.get("label"), str) for row in rows if isinstance(row, dict) and _is_label(row)}) > 1:
        raise VlfilterError(
            f"{url} mixes labels from 0 to 3 with positive and negative, which are 1 and 0 of two levels: use one kind."
        )
    good, bad = [], []
    for number, row in enumerate(rows):
        try:
            good.append(parse_quality_row(row, number))
        except ValueError as error:
            name = row.get("id", "without id") if isinstance(row, dict) else "without id"
            bad.append(f"row {number} ({name}): {error}")
    return good, bad


def _is_label(row: dict[str, Any]) -> bool:
    try:
        _label(row.get("label"))
    except ValueError:
        return False
    return True


def require_levels(rows: Iterable[QualityRow], what: str) -> None:
    """Raises `VlfilterError` unless every kind among the rows has rows of all four levels."""
    counts = Counter((row.kind, row.label) for row in rows)
    if not counts:
        raise VlfilterError(f"{what} holds no usable row: there is nothing to train on.")
    empty = [
        f"no {kind} row of level {label}"
        for kind in KINDS
        if any(counts[kind, label] for label in LABELS)
        for label in LABELS
        if not counts[kind, label]
    ]
    if empty:
        raise VlfilterError(f"{what} has {', '.join(empty)}: a classifier cannot learn a level that it never sees.")


def write_quality_rows(url: str, rows: Iterable[QualityRow]) -> None:
    """Write rows as one JSON list, whole or not at all."""
    text = ",\n".join(json.dumps(row.to_json(), ensure_ascii=False) for row in rows)
    write_bytes(url, f"[\n{text}\n]\n".encode())
