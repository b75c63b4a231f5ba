"""The pairs that the teacher will grade, spread evenly over clusters of captions (MLM-Filter, arXiv 2403.02677, §3:
10,000 pairs of CC12M by clustering caption embeddings), and their images, byte for byte, in a folder.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.decode import Pair, read_pair
from vlfilter.data.image_files import missing_paths
from vlfilter.data.images import decode_image
from vlfilter.data.quotas import even_quotas
from vlfilter.data.reader import ShardReader
from vlfilter.data.receipts import finished, write_receipt
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.shards import Shard, list_shards
from vlfilter.data.storage import join, write_bytes
from vlfilter.errors import ShardError, StorageError, VlfilterError
from vlfilter.methods.mlm_filter.captions import scan_captions, shards_digest, usable_captions
from vlfilter.methods.mlm_filter.clustering import Candidates, find_candidates
from vlfilter.methods.mlm_filter.embedding import embedder_parts, make_embedder
from vlfilter.methods.mlm_filter.pairs import ChosenPair, read_pairs, write_pairs

CODE_VERSION = 1
log = logging.getLogger(__name__)

MAX_LISTED = 100  # problems written out in the receipt; all are counted


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How many pairs, over how many clusters. `model` embeds captions (a CLIP, as `clip_score` takes it); None: words.

    `image_prefix` is the folder below the image folder that the files go to.
    """

    pairs: int = 10_000
    clusters: int = 100
    seed: int = 0
    model: str | None = None
    device: str = "auto"
    image_prefix: str = "quality"


def sample_pairs(
    shards: str | Sequence[str], images: str, output: str, captions: str, settings: SampleSettings
) -> dict[str, Any]:
    """Choose pairs of some shards: writes their images below `images` and the list `output`; returns the summary.

    `captions` is where the one pass over all tars keeps what it read. What is not usable is counted by status, and an
    image that cannot be decoded is replaced by the next of its cluster. Done already: nothing is read.
    """
    listed = list_shards(shards)
    parts = {
        "code": CODE_VERSION,
        "shards": shards_digest(listed),
        "pairs": settings.pairs,
        "clusters": settings.clusters,
        "seed": settings.seed,
        "image_prefix": settings.image_prefix,
        **embedder_parts(settings.model),
    }
    known = finished(output, parts)
    if known is not None and not missing_paths((pair.image for pair in read_pairs(output)), images):
        return known
    log.info("reading the captions of %d shards", len(listed))
    scanned = scan_captions(listed, captions)
    log.info("choosing %d of %d pairs by clusters of their captions", settings.pairs, scanned["pairs"])
    embed = make_embedder(settings.model, settings.seed, settings.device)
    keep = settings.pairs + settings.pairs // 10 + 10  # some of a cluster's first may not be decodable
    candidates = find_candidates(captions, embed, settings.clusters, settings.seed, keep)
    chosen, problems = _take(candidates, captions, {s.name: s for s in listed}, images, settings)
    if not chosen:
        raise VlfilterError(f"none of the images can be used: {problems[0]['reason'] if problems else 'no pairs'}")
    write_pairs(output, chosen)
    counts = Counter(pair.cluster for pair in chosen)
    found = Counter(scanned["problems"]) + Counter(problem["status"] for problem in problems)
    summary = {
        "pairs": len(chosen),
        "wanted": settings.pairs,
        "samples": scanned["samples"],
        "problems": dict(sorted(found.items())),
        "broken_shards": scanned["broken_shards"],
        "unusable": problems[:MAX_LISTED],
        "clusters": [{"cluster": i, "captions": size, "chosen": counts[i]} for i, size in enumerate(candidates.sizes)],
    }
    return write_receipt(output, parts, summary)


def _take(
    candidates: Candidates, captions: str, shards: dict[str, Shard], images: str, settings: SampleSettings
) -> tuple[list[ChosenPair], list[dict[str, str]]]:
    """Fetch the first candidates of every cluster; those that turn out unusable make room for the next."""
    taken: dict[int, ChosenPair] = {}  # position among the candidates → pair
    bad: set[int] = set()
    problems: list[dict[str, str]] = []
    seen: set[str] = set()
    while new := [p for p in _first(candidates, settings.pairs, bad) if p not in taken]:
        rows = dict(zip(new, _rows(captions, candidates.row[new]), strict=True))
        wanted: dict[str, dict[int, int]] = {}  # shard → place in it → position
        for position, row in rows.items():
            if row["uid"] in seen:
                bad.add(position)
                problems.append(_problem(row, Status.UNSUPPORTED, "another sample with this uid is chosen"))
            else:
                seen.add(row["uid"])
                wanted.setdefault(row["shard"], {})[row["place"]] = position
        with ThreadPoolExecutor(4) as pool:
            work = [(shards[name], places) for name, places in sorted(wanted.items())]
            fetched = list(pool.map(lambda item: _fetch(item[0], item[1], images, settings.image_prefix), work))
        for position, result in (pair for part in fetched for pair in part.items()):
            row = rows[position]
            if isinstance(result, SampleError):
                bad.add(position)
                seen.discard(row["uid"])
                problems.append(_problem(row, result.status, result.reason))
            else:
                image, caption = result
                cluster = int(candidates.label[position])
                taken[position] = ChosenPair(row["uid"], image, caption, row["shard"], row["key"], cluster)
    return [taken[position] for position in _first(candidates, settings.pairs, bad)], problems


def _first(candidates: Candidates, total: int, bad: set[int]) -> list[int]:
    """Positions of the candidates that are chosen when those in `bad` are left out, in order of cluster and lot."""
    usable = np.ones(len(candidates.label), bool)
    usable[list(bad)] = False
    positions = np.flatnonzero(usable)
    labels = candidates.label[positions]
    quotas = even_quotas(total, np.bincount(labels, minlength=len(candidates.sizes)).tolist())
    begins = np.searchsorted(labels, labels)
    return [int(p) for p in positions[np.arange(len(labels)) - begins < np.array(quotas)[labels]]]


def _rows(captions: str, wanted: np.ndarray) -> list[dict[str, Any]]:
    """shard, place, key and uid of the wanted usable rows, in the order of `wanted`."""
    order = np.argsort(wanted)
    ascending = wanted[order]
    found: list[dict[str, Any]] = []
    start = 0
    for batch in usable_captions(captions, ("shard", "place", "key", "uid")):
        end = start + batch.num_rows
        inside = ascending[np.searchsorted(ascending, start) : np.searchsorted(ascending, end)]
        found += batch.take(pa.array(inside - start)).to_pylist()
        start = end
    return [found[i] for i in np.argsort(order)]


def _fetch(shard: Shard, places: dict[int, int], images: str, prefix: str) -> dict[int, tuple[str, str] | SampleError]:
    """(image path, caption) of each wanted sample of a shard, its image written; or why it cannot be used."""
    found: dict[int, tuple[str, str] | SampleError] = {}
    try:
        for place, raw in enumerate(ShardReader(shard)):
            if place not in places:
                continue
            try:
                pair = read_pair(raw)
                decode_image(pair.image.data)
            except SampleError as problem:
                found[places[place]] = problem
                continue
            name = image_path(pair, prefix)
            write_bytes(join(images, name), pair.image.data)
            found[places[place]] = (name, pair.caption)
            if len(found) == len(places):
                break
    except ShardError as error:
        raise VlfilterError(f"{error} It could be read a moment ago: was it replaced?") from error
    except OSError as error:
        raise StorageError(f"shard {shard.url} could not be read to its end: {error}") from error
    for place, position in places.items():
        if position not in found:
            raise VlfilterError(f"shard {shard.url} has no sample {place} any more: it was changed while it was read.")
    return found


def image_path(pair: Pair, prefix: str) -> str:
    """`PREFIX/ab/UID.jpg`: the uid is 32 hex digits, so no name from the data reaches the file system."""
    return f"{prefix.strip('/')}/{pair.uid[:2]}/{pair.uid}.{pair.image.extension}"


def _problem(row: dict[str, Any], status: Status, reason: str) -> dict[str, str]:
    return {"shard": row["shard"], "key": row["key"], "status": str(status), "reason": reason}
