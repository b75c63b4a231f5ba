"""CLIP features of every instruction: a unit vector of its text and one of its image (arXiv 2402.12501).

`texts/NNNNN.parquet` has a row for each row of the shard of that name. An image is encoded once: `images/NNNNN.parquet`
holds those that occur in the shard of that name and in no earlier one, so that which file an image is in follows from
the rows alone. Image half, then text half, is the published feature; the product of the halves is the CLIP score.

Each file is written when it is complete and kept as long as the rows, the model and the settings are the same. Images
that were missing or broken are looked at again; one that was replaced under its name is not noticed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.feature_files import IMAGES, TEXTS, UNFINISHED
from vlfilter.data.image_files import load_image
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import absolute, check_writable, filesystem, join, write_bytes
from vlfilter.data.tables import digest, open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.clip_encoder import ClipEncoder
from vlfilter.methods.self_filter.row_images import MAY_BE_MENDED, PROBED, loads, row_problem
from vlfilter.methods.self_filter.row_shards import RowShard, remove_shards, row_shards, shard_footer, write_shard
from vlfilter.methods.self_filter.vectors import STORED, Vector, vector_table
from vlfilter.models.clip_source import clip_source

CODE_VERSION = 1  # raised by whoever changes a vector
MODEL = "openai/clip-vit-large-patch14"

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """`dtype` is what the vectors are stored in (`float16` or `float32`), `precision` what the towers compute in
    (as published: `float32`). `batch` and `workers` (threads that read images) change no vector."""

    model: str = MODEL
    dtype: str = "float16"
    precision: str = "float32"
    device: str = "auto"
    batch: int = 128
    workers: int = 4

    def __post_init__(self) -> None:
        if self.dtype not in STORED:
            raise VlfilterError(f"features cannot be stored as {self.dtype!r}: {', '.join(STORED)}.")
        if self.batch < 1 or self.workers < 1:
            raise VlfilterError("batch and workers must be at least 1.")


@dataclass(frozen=True, slots=True)
class ClipJob:
    """What is to be made of one shard: two files, from its rows and from the images that no earlier shard has."""

    shard: RowShard
    images: tuple[str, ...]
    texts_url: str
    images_url: str
    texts_parts: Mapping[str, Any]
    images_parts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """`rows` by status (a row is ok when both its halves are there), `images` likewise; `made` and `kept` are files."""

    rows: dict[str, int]
    images: dict[str, int]
    made: int
    kept: int


def clip_jobs(data: str, images: str, output: str, settings: ClipSettings) -> list[ClipJob]:
    """One job a shard; loads no model. `data` is what `preprocess` wrote, `images` the folder (or s3:// prefix) that
    its paths start from, `output` the folder for `texts/` and `images/`."""
    shared = {
        "code": CODE_VERSION,
        "model": clip_source(settings.model).digest(),
        "dtype": settings.dtype,
        "precision": settings.precision,
    }
    jobs = []
    seen: set[str] = set()
    for shard in row_shards(data):
        rows = shard.read(["image", "status"]).to_pydict()
        used = [name for name, status in zip(rows["image"], rows["status"], strict=True) if name and status == "ok"]
        fresh = tuple(name for name in dict.fromkeys(used) if name not in seen)
        seen.update(fresh)
        jobs.append(
            ClipJob(
                shard,
                fresh,
                join(output, TEXTS, f"{shard.name}.parquet"),
                join(output, IMAGES, f"{shard.name}.parquet"),
                {"step": "clip texts", **shared, "rows": shard.content},
                {"step": "clip images", **shared, "folder": absolute(images), "images": digest({"names": fresh})},
            )
        )
    return jobs


class ClipWorker:
    """Does jobs; the model is loaded when the first one needs it."""

    def __init__(self, images: str, settings: ClipSettings):
        self.images = images
        self.settings = settings

    @cached_property
    def encoder(self) -> ClipEncoder:
        s = self.settings
        return ClipEncoder(s.model, s.device, s.precision, s.batch, s.workers)

    def run(self, job: ClipJob) -> int:
        """Make what is missing or out of date; returns how many files (0, 1 or 2)."""
        texts, images = self._text_stale(job), self._images_stale(job)
        if images:
            self._make_images(job)
        if texts:
            self._make_texts(job)
        return texts + images

    def _text_stale(self, job: ClipJob) -> bool:
        return shard_footer(job.texts_url, job.texts_parts) is None

    def _images_stale(self, job: ClipJob) -> bool:
        footer = shard_footer(job.images_url, job.images_parts)
        if footer is None:
            return True
        if not any(footer.counts.get(status) for status in MAY_BE_MENDED):
            return False
        rows = _read(job.images_url, ["image", "status"])
        failed = [name for name, status in rows if status in MAY_BE_MENDED]
        with ThreadPoolExecutor(self.settings.workers) as pool:
            return any(pool.map(partial(loads, self.images), failed))

    def _make_images(self, job: ClipJob) -> None:
        begun = time.monotonic()
        vectors = self.encoder.images(self.images, job.images)
        head = pa.table({"image": pa.array(job.images, pa.string())})
        self._write(job.images_url, head, vectors, job.images_parts, begun)

    def _make_texts(self, job: ClipJob) -> None:
        begun = time.monotonic()
        rows = job.shard.read()
        problems = [row_problem(row) for row in rows.select(["image", "status", "reason"]).to_pylist()]
        texts = rows["text"].to_pylist()
        found = iter(self.encoder.texts([text for text, why in zip(texts, problems, strict=True) if why is None]))
        vectors = [next(found) if why is None else why for why in problems]
        self._write(job.texts_url, rows.select(["id", "image"]), vectors, job.texts_parts, begun)

    def _write(
        self, url: str, head: pa.Table, vectors: Sequence[Vector], parts: Mapping[str, Any], begun: float
    ) -> None:
        table = vector_table(head, vectors, self.encoder.dimension, self.settings.dtype)
        write_shard(url, table, parts, time.monotonic() - begun)


def clip_features(data: str, images: str, output: str, settings: ClipSettings, tell: Told | None = None) -> ClipSummary:
    """Make all features that are not there yet; a run that was stopped goes on at the file it was at.

    `tell` hears a line a shard. Raises `VlfilterError` when the rows or the model are missing, or no image is found.
    """
    check_writable(output)
    jobs = clip_jobs(data, images, output, settings)
    check_images(jobs, images)
    mark_unfinished(jobs, output)
    worker = ClipWorker(images, settings)
    made = 0
    for number, job in enumerate(jobs, 1):
        files = worker.run(job)
        made += files
        if tell:
            what = f"{job.shard.rows} texts, {len(job.images)} images" if files else "was done"
            tell(f"{job.shard.name} ({number} of {len(jobs)}): {what}")
    for folder in (TEXTS, IMAGES):
        remove_shards(join(output, folder), [job.shard.name for job in jobs])
    _unmark(output)
    rows, pictures = _count(jobs)
    return ClipSummary(rows, pictures, made, 2 * len(jobs) - made)


def mark_unfinished(jobs: Sequence[ClipJob], output: str) -> None:
    """Let nobody read `output`, unless all is there already, until `clip_features` has come to its end."""
    if not all(
        shard_footer(job.texts_url, job.texts_parts) and shard_footer(job.images_url, job.images_parts) for job in jobs
    ):
        write_bytes(join(output, UNFINISHED), b"`vlfilter self-filter features` has not come to its end here.\n")


def _unmark(output: str) -> None:
    fs, path = filesystem(join(output, UNFINISHED))
    if fs.exists(path):
        fs.rm_file(path)


def check_images(jobs: Sequence[ClipJob], folder: str) -> None:
    """Raises `VlfilterError` when images are to be encoded and of some, of all shards, none is there."""
    if all(shard_footer(job.images_url, job.images_parts) for job in jobs):
        return
    names = [name for job in jobs for name in job.images]
    probes = names[:: max(1, len(names) // PROBED)]
    for name in probes:
        try:
            load_image(folder, name)
        except SampleError as error:
            if error.status == Status.MISSING_IMAGE:
                continue
        return
    if probes:
        raise VlfilterError(
            f"none of the {len(probes)} images that were looked for is in {folder}, the first is {names[0]}: give the "
            "folder that the paths in the annotations start from."
        )


def clip_scores(features: np.ndarray) -> np.ndarray:
    """CLIP score (N,), the cosine of image and text, of features (N, 2d): image half, then text half."""
    half = features.shape[1] // 2
    products: np.ndarray = np.einsum("nd,nd->n", features[:, :half], features[:, half:], dtype=np.float64)
    return products


def clip_problems(files: Sequence[tuple[str, str]]) -> dict[int, SampleError]:
    """Why rows lack one of their halves, by id. `files` are the shards' (texts, images), in order."""
    broken: dict[str, SampleError] = {}
    problems: dict[int, SampleError] = {}
    for texts, images in files:
        for name, status, reason in _read(images, ["image", "status", "reason"]):
            if status != Status.OK:
                broken[name] = SampleError(Status(status), reason)
        for number, name, status, reason in _read(texts, ["id", "image", "status", "reason"]):
            if status != Status.OK:
                problems[number] = SampleError(Status(status), reason)
            elif name in broken:
                problems[number] = broken[name]
    return problems


def _count(jobs: Sequence[ClipJob]) -> tuple[dict[str, int], dict[str, int]]:
    pictures: Counter[str] = Counter()
    for job in jobs:
        pictures.update(status for (status,) in _read(job.images_url, ["status"]))
    problems = clip_problems([(job.texts_url, job.images_url) for job in jobs])
    rows = Counter(str(problem.status) for problem in problems.values())
    rows[str(Status.OK)] = sum(job.shard.rows for job in jobs) - len(problems)
    return _in_order(rows), _in_order(pictures)


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    return {str(status): counts[status] for status in Status if counts.get(status)}


def _read(url: str, columns: list[str]) -> list[tuple[Any, ...]]:
    with open_parquet(url) as file:
        table = file.read(columns=columns)
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))
