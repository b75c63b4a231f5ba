"""Items: an image, or a set of images in their order, that the teacher writes four texts for. One JSON list of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vlfilter.data.quality_rows import KINDS, Kind
from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError

Side = Literal["train", "validation"]
SIDES: tuple[Side, ...] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Item:
    """`images` are paths below the image folder, `origin` tells where they came from (for people).

    Items whose images are (nearly) the same share a `side`, whatever their kind.
    """

    id: str
    kind: Kind
    images: tuple[str, ...]
    origin: str
    side: Side


def write_items(url: str, items: Iterable[Item]) -> None:
    text = ",\n".join(json.dumps(asdict(item), ensure_ascii=False) for item in items)
    write_bytes(url, f"[\n{text}\n]\n".encode())


def read_items(url: str) -> list[Item]:
    """Raises `VlfilterError` for a file that is missing or no list of items, or where two of a kind share an id."""
    try:
        rows = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no list of images {url}: the step that chooses images writes one.") from None
    except ValueError as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from error
    if not isinstance(rows, list):
        raise VlfilterError(f"{url} is not a JSON list of items (objects with id, kind, images and side).")
    items = [_item(url, number, row) for number, row in enumerate(rows)]
    seen: set[tuple[str, str]] = set()
    for item in items:
        if (item.kind, item.id) in seen:
            raise VlfilterError(f"{url}: two {item.kind} items have the id {item.id!r}.")
        seen.add((item.kind, item.id))
    return items


def _item(url: str, number: int, row: Any) -> Item:
    if not isinstance(row, dict):
        raise VlfilterError(f"{url}: row {number} is not an object with id, kind, images and side.")
    images = row.get("images")
    checks = {
        "id": isinstance(row.get("id"), str) and bool(row["id"]),
        "kind": row.get("kind") in KINDS,
        "images": isinstance(images, list) and bool(images) and all(isinstance(path, str) and path for path in images),
        "side": row.get("side") in SIDES,
    }
    for name, good in checks.items():
        if not good:
            raise VlfilterError(f"{url}: row {number}: {name} is missing or wrong ({row.get(name)!r}).")
    return Item(row["id"], row["kind"], tuple(row["images"]), str(row.get("origin", "")), row["side"])
