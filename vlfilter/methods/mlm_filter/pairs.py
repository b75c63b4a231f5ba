"""Chosen image-text pairs: one JSON list that other tools can write too, and their images in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """`id` tells it apart, `image` is a path below the image folder; the rest says where it came from."""

    id: str
    image: str
    caption: str
    shard: str = ""
    key: str = ""
    cluster: int = -1


def write_pairs(url: str, pairs: Iterable[ChosenPair]) -> None:
    text = ",\n".join(json.dumps(asdict(pair), ensure_ascii=False) for pair in pairs)
    write_bytes(url, f"[\n{text}\n]\n".encode())


def read_pairs(url: str) -> list[ChosenPair]:
    """The pairs of a JSON list of objects with `id`, `image` and `caption`.

    Raises `VlfilterError` when the file is missing or no such list, or when two pairs share an id.
    """
    try:
        rows = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no list of pairs {url}: the sampling step writes one.") from None
    except ValueError as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from error
    if not isinstance(rows, list):
        raise VlfilterError(f"{url} is not a JSON list of pairs (objects with id, image and caption).")
    pairs = [_pair(url, number, row) for number, row in enumerate(rows)]
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            raise VlfilterError(f"{url}: two pairs have the id {pair.id!r}.")
        seen.add(pair.id)
    return pairs


def _pair(url: str, number: int, row: Any) -> ChosenPair:
    if not isinstance(row, dict):
        raise VlfilterError(f"{url}: row {number} is not an object with id, image and caption.")
    for name in ("id", "image", "caption"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise VlfilterError(f"{url}: row {number} has no {name}.")
    cluster = row.get("cluster", -1)
    return ChosenPair(
        row["id"],
        row["image"],
        row["caption"],
        str(row.get("shard", "")),
        str(row.get("key", "")),
        cluster if isinstance(cluster, int) else -1,
    )
