"""Visual Genome's regions: where is what a phrase speaks of?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vlfilter.data.json_lists import stream_list
from vlfilter.data.schemas.base import Example, How, LeftOutError, Schema, fields, id_of, text
from vlfilter.data.schemas.text import box_text

AREA = 16384  # square pixels; larger regions are left out, as OFA does
BOX = ("x", "y", "width", "height")


def _regions(urls: Sequence[str]) -> Iterator[Any]:
    """A region at a time, with its image's row."""
    regions, images = urls
    known = {id_of(row, "image_id"): row for row in stream_list(images, "images") if isinstance(row, dict)}
    for number, row in enumerate(stream_list(regions, "images' regions")):
        told = row.get("regions") if isinstance(row, dict) else None
        if not isinstance(told, list):
            yield {"problem": f"image {number} of the file has no list of regions"}
            continue
        image = known.get(id_of(row, "id"))
        yield from ({"region": region, "image": image, "of": id_of(row, "id")} for region in told)


def _region(row: Any, how: How) -> Example:
    if "problem" in row:
        raise ValueError(row["problem"])
    region, image = fields(row["region"]), row["image"]
    if image is None:
        raise ValueError(f"its image {row['of']} is not in image_data.json")
    box: list[Any] = [region.get(name) for name in BOX]
    told = box_text(box, image.get("width"), image.get("height"), how.mode)
    if box[2] * box[3] >= AREA:
        raise LeftOutError(f"its region has {AREA} square pixels or more")
    url = text(image, "url")
    path = "/".join(url.split("/")[-2:])  # VG_100K/1.jpg; the address is not asked
    return Example(id_of(region, "region_id"), path, (how.text(text(region, "phrase")),), (told,))


VG_REGIONS = Schema(_regions, _region, "refer", files=("region_descriptions.json", "image_data.json"))
