"""The demo's shards: a pool to be filtered, a clean test set, and the truth about the pool in a file of its own."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from PIL import Image

from vlfilter.data.storage import join, write_bytes
from vlfilter.demo.scenes import scenes
from vlfilter.demo.seeds import stream
from vlfilter.demo.spoil import Kind, Pair, plant, spoil

# extension → how PIL writes it; web data mixes them
FORMATS: dict[str, dict[str, object]] = {
    "jpg": {"format": "JPEG", "quality": 90},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "quality": 90},
}
TRUTH = pa.schema([(name, pa.string()) for name in ("uid", "key", "shard", "kind", "label", "source")])


@dataclass(frozen=True, slots=True)
class DataSizes:
    """Samples of the pool and of the test set, and the shards that the pool is cut into."""

    pool: int = 2400
    test: int = 600
    shards: int = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One sample as it goes into a tar: its members by extension, and its row of the truth."""

    key: str
    uid: str
    members: dict[str, bytes]
    pair: Pair


def _encode(image: Image.Image, extension: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **FORMATS[extension])  # type: ignore[arg-type]
    return buffer.getvalue()


def records(pairs: Sequence[Pair], name: str, seed: int) -> Iterator[Record]:
    """Pairs as img2dataset writes them: image, `.txt`, and `.json` with `uid` and `caption`."""
    rng = stream(seed, f"{name}/formats")
    for i, pair in enumerate(pairs):
        uid = hashlib.blake2b(f"{seed}/{name}/{i}".encode(), digest_size=16).hexdigest()
        extension = rng.choice(tuple(FORMATS))
        width, height = pair.image.size
        about = {"uid": uid, "caption": pair.caption, "width": width, "height": height}
        members = {
            extension: _encode(pair.image, extension),
            "txt": pair.caption.encode(),
            "json": json.dumps(about).encode(),
        }
        yield Record(f"{i:06d}", uid, members, pair)


def broken(record: Record, defect: str) -> Record:
    """The sample with a JPEG cut in the middle (`truncated`) or without any caption (`no caption`)."""
    pair = Pair(record.pair.image, "", Kind.BROKEN, record.pair.label, record.pair.source)
    jpeg, about = _encode(pair.image, "jpg"), {"uid": record.uid}
    if defect == "truncated":
        members = {**record.members, "jpg": jpeg[: len(jpeg) // 2]}
        members = {extension: data for extension, data in members.items() if extension not in ("png", "webp")}
    else:
        members = {"jpg": jpeg, "json": json.dumps(about).encode()}
    return Record(record.key, record.uid, members, pair)


def tar_bytes(group: Sequence[Record]) -> bytes:
    """A WebDataset tar, the same bytes for the same records."""
    buffer = io.BytesIO()
    writer = webdataset.TarWriter(buffer, encoder=False, mtime=0.0)  # type: ignore[no-untyped-call]
    for record in group:
        writer.write({"__key__": record.key, **record.members})  # type: ignore[no-untyped-call]
    writer.close()  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def write_data(output: str, sizes: DataSizes, seed: int) -> None:
    """Write `shards/pool-*.tar`, `test/test-00000.tar` and `truth.parquet` below `output`.

    Two samples of the pool cannot be read (a truncated JPEG, a missing caption), to show what becomes of such.
    """
    pool = list(records(spoil(list(scenes("pool", sizes.pool, seed)), seed), "pool", seed))
    for index, defect in ((len(pool) // 3, "truncated"), (2 * len(pool) // 3, "no caption")):
        pool[index] = broken(pool[index], defect)
    rows: list[dict[str, str]] = []
    for number in range(sizes.shards):
        shard = f"pool-{number:05d}"
        group = pool[number * len(pool) // sizes.shards : (number + 1) * len(pool) // sizes.shards]
        write_bytes(join(output, "shards", f"{shard}.tar"), tar_bytes(group))
        rows += [
            {
                "uid": r.uid,
                "key": r.key,
                "shard": shard,
                "kind": r.pair.kind,
                "label": r.pair.label,
                "source": r.pair.source,
            }
            for r in group
        ]
    rng = stream(seed, "test captions")
    clean = [plant(scene, Kind.CLEAN, (), rng) for scene in scenes("test", sizes.test, seed)]
    write_bytes(join(output, "test", "test-00000.tar"), tar_bytes(list(records(clean, "test", seed))))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH), buffer)
    write_bytes(join(output, "truth.parquet"), buffer.getvalue())
