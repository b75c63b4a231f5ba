"""Small pictures of chosen samples, read from their shards; whatever is gone is told instead of shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from vlfilter.data.decode import decode_sample
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import ImageText, Interleaved, RawSample
from vlfilter.data.tables import Footer

SIDE = 160
QUALITY = 82
CAPTION = 240
THREADS = 4
# Tars have no index: a sample is found by reading up to it. Beyond this, pictures are left out.
MAX_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """`image` is a JPEG data URL of at most 160 × 160 px, "" where there is none and `problem` says why."""

    key: str
    caption: str
    image: str
    problem: str = ""


def read_thumbnails(
    wanted: Iterable[tuple[str, int]], footers: Mapping[str, Footer], keys: Mapping[tuple[str, int], str]
) -> dict[tuple[str, int], Thumbnail]:
    """The thumbnail of every (shard, row). Never raises: a shard that is gone or has changed is the `problem`.

    `keys` are those that the score tables have in these rows.
    """
    rows: dict[str, list[int]] = {}
    for shard, row in dict.fromkeys(wanted):
        rows.setdefault(shard, []).append(row)
    found = {(s, row): Thumbnail(keys[s, row], "", "", "not read") for s, numbers in rows.items() for row in numbers}
    left, affordable = MAX_BYTES, []
    for shard in sorted(rows, key=lambda s: footers[s].shard.size):
        left -= footers[shard].shard.size
        if left >= 0:
            affordable.append(shard)
        else:
            skipped = f"not read: the shards of all pictures are larger than {MAX_BYTES >> 30} GiB"
            found |= {(shard, row): Thumbnail(keys[shard, row], "", "", skipped) for row in rows[shard]}
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(lambda shard: _from_shard(shard, footers[shard], rows[shard], keys), affordable):
            found |= part
    return found


def _from_shard(
    shard: str, footer: Footer, rows: Sequence[int], keys: Mapping[tuple[str, int], str]
) -> dict[tuple[str, int], Thumbnail]:
    wanted, last = set(rows), max(rows)
    found: dict[tuple[str, int], Thumbnail] = {}
    try:
        for row, raw in enumerate(ShardReader(footer.shard)):
            if row in wanted:
                key = keys[shard, row]
                found[shard, row] = (
                    _thumbnail(raw) if raw.key == key else Thumbnail(key, "", "", "the shard has changed since")
                )
            if row == last:
                break
        why = "the shard has fewer samples now"
    except Exception as error:  # object stores raise their own families of errors; the report goes on without
        why = f"the shard cannot be read: {error}"
    return found | {(shard, row): Thumbnail(keys[shard, row], "", "", why) for row in rows if (shard, row) not in found}


def _thumbnail(raw: RawSample) -> Thumbnail:
    sample = decode_sample(raw)
    match sample.content:
        case ImageText(image, caption):
            return Thumbnail(sample.key, _short(caption), _data_url(image))
        case Interleaved(texts, images, _):
            first = next((image for image in images if image is not None), None)
            text = _short(" … ".join(text for text in texts if text))
            return Thumbnail(sample.key, text, _data_url(first) if first else "", "" if first else "no image")
        case _:
            return Thumbnail(sample.key, "", "", str(sample.problem))


def _data_url(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _short(text: str) -> str:
    return text if len(text) <= CAPTION else f"{text[:CAPTION]}…"
