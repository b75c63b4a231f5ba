"""What is written down about an image: captions, boxes, described regions, text in it. All that a blind teacher sees.

Sources: COCO's captions and instances, Visual Genome's region descriptions, and lines of recognised text in a JSON file
of ours. Text forms as in MLLM-DataEngine's prompts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.retrieval.index import ImageId


@dataclass(frozen=True, slots=True)
class Box:
    """A place in an image and what is there. Corners as fractions of width and height, not rounded."""

    text: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """`captions` and `boxes` are COCO's, each once, in the files' order; `regions` Visual Genome's, `ocr` lines."""

    captions: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    regions: tuple[Box, ...] = ()
    ocr: tuple[Box, ...] = ()

    def as_regions(self) -> tuple[Box, ...]:
        """Captions as regions of the whole image, then the boxes: for images without described regions."""
        return (*(Box(" ".join(caption.split()), 0.0, 0.0, 1.0, 1.0) for caption in self.captions), *self.boxes)


@dataclass(frozen=True, slots=True)
class FactBook:
    """The facts of each image by id; `skipped` counts entries of the files that say nothing usable, by reason."""

    facts: Mapping[ImageId, ImageFacts]
    skipped: Mapping[str, int] = field(default_factory=dict)


def box_text(facts: ImageFacts) -> str:
    """One line a box, `category : [x1, y1, x2, y2]` (three decimals at most); empty without boxes."""
    return "".join(f"{box.text} : {_corners(box, 3)}\n" for box in facts.boxes)


def caption_text(facts: ImageFacts) -> str:
    """One line a caption; empty without captions."""
    return "".join(f"{caption}\n" for caption in facts.captions)


def region_text(regions: Iterable[Box]) -> str:
    """One line a region, `[x1, y1, x2, y2]: text` (two decimals at most), as in the later paper's figure."""
    return "".join(f"{_corners(region, 2)}: {region.text}\n" for region in regions)


def read_coco(captions: str | None, instances: str | None) -> FactBook:
    """The facts of all images in COCO's `captions_*.json` and `instances_*.json`, either of which may be absent.

    An image is known when one of the files lists it. Entries that are not usable (no such image or category, a box that
    is none, no size) are counted. Raises `VlfilterError` when a file is missing or not of COCO's form.
    """
    if captions is None and instances is None:
        raise VlfilterError("neither captions nor instances: a teacher that does not see the image needs one of them.")
    skipped: dict[str, int] = {}
    texts: dict[int, dict[str, None]] = {}
    boxes: dict[int, dict[tuple[Any, ...], Box]] = {}
    known: dict[int, None] = {}
    if captions is not None:
        loaded = _coco(captions)
        known.update(dict.fromkeys(_sizes(loaded)))
        for entry in loaded["annotations"]:
            image, caption = entry.get("image_id"), entry.get("caption")
            if not isinstance(image, int) or not isinstance(caption, str) or not caption.strip():
                _count(skipped, "a caption without text or image id")
                continue
            known[image] = None
            texts.setdefault(image, {})[caption] = None
    if instances is not None:
        loaded = _coco(instances)
        sizes = _sizes(loaded)
        known.update(dict.fromkeys(sizes))
        names = {c.get("id"): c.get("name") for c in loaded.get("categories") or () if isinstance(c, dict)}
        for entry in loaded["annotations"]:
            found = _coco_box(entry, sizes, names)
            if isinstance(found, str):
                _count(skipped, found)
                continue
            image, key, box = found
            boxes.setdefault(image, {}).setdefault(key, box)
    facts: dict[ImageId, ImageFacts] = {
        i: ImageFacts(tuple(texts.get(i, ())), tuple(boxes.get(i, {}).values())) for i in known
    }
    return FactBook(facts, skipped)


def read_regions(descriptions: str, images: str, ocr: str | None = None) -> FactBook:
    """Visual Genome's `region_descriptions.json` with the sizes in its `image_data.json`, and recognised text:
    a list of `{"image_id": …, "box": [x1, y1, x2, y2] from 0 to 1, "text": …}`."""
    skipped: dict[str, int] = {}
    sizes = _sizes({"images": _json(images)}, "image_id")
    facts: dict[ImageId, ImageFacts] = {}
    for entry in _json(descriptions):
        image = entry.get("id", entry.get("image_id")) if isinstance(entry, dict) else None
        if not isinstance(image, int) or image not in sizes:
            _count(skipped, "an image whose size is not known")
            continue
        found = [_region(region, sizes[image]) for region in entry.get("regions") or ()]
        for _ in range(found.count(None)):
            _count(skipped, "a region without box or phrase")
        facts[image] = ImageFacts(regions=tuple(dict.fromkeys(box for box in found if box)))
    for entry in _json(ocr) if ocr else ():
        try:
            x1, y1, x2, y2 = map(float, entry["box"])
            image, line = entry["image_id"], Box(str(entry["text"]), x1, y1, x2, y2)
            facts[image] = replace(facts[image], ocr=(*facts[image].ocr, line))
        except (KeyError, TypeError, ValueError):
            _count(skipped, "a line of text without image, box or text")
    return FactBook(facts, skipped)


def _corners(box: Box, digits: int) -> list[float]:
    return [round(value, digits) for value in (box.x1, box.y1, box.x2, box.y2)]


def _coco_box(entry: Any, sizes: Mapping[int, tuple[float, float]], names: Mapping[Any, Any]) -> Any:
    """(image, what tells boxes apart, box), or the reason why it is none."""
    image, category = entry.get("image_id"), entry.get("category_id")
    if not isinstance(image, int) or image not in sizes:
        return "a box of an image that is not listed"
    name = names.get(category) if isinstance(category, int) else None
    if not isinstance(name, str):
        return "a box without a category"
    corners = _scaled(entry.get("bbox"), sizes[image])
    return (image, (*entry["bbox"], name), Box(name, *corners)) if corners else "a box that is no four numbers"


def _scaled(box: Any, size: tuple[float, float]) -> tuple[float, float, float, float] | None:
    """x, y, width, height in pixels → corners as fractions, computed as the original does."""
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in box) or min(size) <= 0:
        return None
    x, y, w, h = box
    return x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1]


def _region(region: Any, size: tuple[float, float]) -> Box | None:
    if not isinstance(region, dict) or not isinstance(region.get("phrase"), str) or not region["phrase"].strip():
        return None
    corners = _scaled([region.get(name) for name in ("x", "y", "width", "height")], size)
    return Box(" ".join(region["phrase"].split()), *corners) if corners else None


def _sizes(loaded: Mapping[str, Any], name: str = "id") -> dict[int, tuple[float, float]]:
    sizes: dict[int, tuple[float, float]] = {}
    for image in loaded.get("images") or ():
        if isinstance(image, dict) and isinstance(image.get(name), int):
            width, height = image.get("width", 0), image.get("height", 0)
            sizes[image[name]] = (width, height) if _number(width) and _number(height) else (0, 0)
    return sizes


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _coco(url: str) -> dict[str, Any]:
    loaded = _json(url)
    entries = loaded.get("annotations") if isinstance(loaded, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise VlfilterError(f"{url} is no COCO file: it has no list `annotations`.")
    found: dict[str, Any] = loaded
    return found


def _json(url: str) -> Any:
    try:
        return json.loads(read_bytes(url), object_hook=_without_polygons)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None


def _without_polygons(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)  # most of COCO's instances, and nothing here reads them
    return entry


def _count(counts: dict[str, int], reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1
