"""ImageReward of every instruction: its whole text against its image, one of the three scores (arXiv 2402.12501).

`NNNNN.parquet` has a row (`id`, `image_reward`, `status`, `reason`) for each row of the shard of that name. It is
written when it is complete, and kept as long as the rows, the model and the settings are the same. Images that were
missing or broken are looked at again; one that was replaced under its name is not noticed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from vlfilter.data.image_files import load_image, missing_paths
from vlfilter.data.samples import ImageText, SampleError, Status
from vlfilter.data.storage import absolute, check_writable, is_local, join
from vlfilter.data.tables import TAIL, open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.row_images import MAY_BE_MENDED, PROBED, loads, row_problem
from vlfilter.methods.self_filter.row_shards import RowShard, remove_shards, row_shards, shard_footer, write_shard
from vlfilter.scoring.base import Prepared, ScorerSettings
from vlfilter.scoring.batching import Batcher
from vlfilter.scoring.engine import HOPELESS
from vlfilter.scoring.image_reward import ImageRewardScore
from vlfilter.scoring.pipeline import describe, ordered_map
from vlfilter.scoring.runner import BatchRunner, Row

CODE_VERSION = 1  # raised by whoever changes a row
MODEL = "THUDM/ImageReward"
SCHEMA = pa.schema([pa.field("id", pa.int64(), False), pa.field("image_reward", pa.float64()), *TAIL])

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """`precision` is what the towers compute in (as published: `float32`). `batch_tokens` (a pair takes 232 with the
    published model) and `workers` (threads that read images) change no reward."""

    model: str = MODEL
    precision: str = "float32"
    device: str = "auto"
    batch_tokens: int = 8192
    workers: int = 4

    def __post_init__(self) -> None:
        if self.batch_tokens < 1 or self.workers < 1:
            raise VlfilterError("batch_tokens and workers must be at least 1.")

    def scorer(self) -> ImageRewardScore:
        """Not loaded. Raises `VlfilterError` for a model folder that lacks something or an unknown precision."""
        return ImageRewardScore(ScorerSettings(self.model, device=self.device, dtype=self.precision))


@dataclass(frozen=True, slots=True)
class RewardJob:
    """One file to make from one shard of rows."""

    shard: RowShard
    url: str
    parts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RewardSummary:
    """`rows` by status; `made` and `kept` are files."""

    rows: dict[str, int]
    made: int
    kept: int


def reward_jobs(data: str, images: str, output: str, settings: RewardSettings) -> list[RewardJob]:
    """One job a shard; loads no model. `data` is what `preprocess` wrote, `images` the folder (or s3:// prefix) that
    its paths start from, `output` the folder for the files."""
    shared = {**settings.scorer().fingerprint(), "step": "image_reward", "rows_code": CODE_VERSION}
    return [
        RewardJob(
            shard,
            join(output, f"{shard.name}.parquet"),
            shared | {"folder": absolute(images), "rows": shard.content},
        )
        for shard in row_shards(data)
    ]


class RewardWorker:
    """Does jobs; the model is loaded when the first one needs it."""

    def __init__(self, images: str, settings: RewardSettings):
        self.images = images
        self.settings = settings

    @cached_property
    def runner(self) -> BatchRunner:
        scorer = self.settings.scorer()
        scorer.load()
        return BatchRunner(scorer, self.settings.batch_tokens)

    def run(self, job: RewardJob) -> bool:
        """Make the file if it is missing or out of date; returns whether it was made."""
        if not self._stale(job):
            return False
        begun = time.monotonic()
        rows = job.shard.read()
        found = self._rewards(rows.to_pylist())
        columns = {
            "id": rows["id"].to_pylist(),
            "image_reward": [None if isinstance(row, SampleError) else row["image_reward"] for row in found],
            "status": [str(row.status if isinstance(row, SampleError) else Status.OK) for row in found],
            "reason": [row.reason if isinstance(row, SampleError) else None for row in found],
        }
        write_shard(job.url, pa.table(columns, schema=SCHEMA), job.parts, time.monotonic() - begun)
        return True

    def _rewards(self, rows: Sequence[Mapping[str, Any]]) -> list[Row | SampleError]:
        batcher = Batcher(self.runner)
        prepared = ordered_map(self._prepare, rows, self.settings.workers, ahead=4 * self.settings.workers)
        for position, one in enumerate(prepared):
            batcher.add(position, one)
        batcher.finish()
        found = [batcher.rows[position] for position in range(len(rows))]
        failed = [row for row in found if isinstance(row, SampleError) and row.status == Status.FAILED]
        if len(failed) >= HOPELESS and not self.runner.scored:
            raise VlfilterError(f"ImageReward scored no row at all. The first failure: {failed[0].reason}")
        return found

    def _prepare(self, row: Mapping[str, Any]) -> Prepared | SampleError:
        problem = row_problem(row)
        if problem is not None:
            return problem
        try:
            content = ImageText(load_image(self.images, row["image"]), row["text"])
            return self.runner.scorer.prepare(content)
        except SampleError as error:
            return error
        except (OSError, VlfilterError):  # the storage, or the model: no row's fault
            raise
        except Exception as error:
            return SampleError(Status.FAILED, f"it cannot be prepared: {describe(error)}")

    def _stale(self, job: RewardJob) -> bool:
        footer = shard_footer(job.url, job.parts)
        if footer is None:
            return True
        if not any(footer.counts.get(status) for status in MAY_BE_MENDED):
            return False
        with open_parquet(job.url) as file:
            statuses = file.read(columns=["status"])["status"].to_pylist()
        names = job.shard.read(["image"])["image"].to_pylist()
        failed = [n for n, status in zip(names, statuses, strict=True) if n and status in MAY_BE_MENDED]
        return any(ordered_map(partial(loads, self.images), failed, self.settings.workers, ahead=64))


def image_rewards(
    data: str, images: str, output: str, settings: RewardSettings, tell: Told | None = None
) -> RewardSummary:
    """Make all files that are not there yet; a run that was stopped goes on at the shard it was at.

    `tell` hears a line a shard. Raises `VlfilterError` when the rows or the model are missing, no image is found, or
    nothing can be scored at all.
    """
    check_writable(output)
    jobs = reward_jobs(data, images, output, settings)
    _check_images(jobs, images)
    worker = RewardWorker(images, settings)
    made = 0
    for number, job in enumerate(jobs, 1):
        new = worker.run(job)
        made += new
        if tell:
            tell(f"{job.shard.name} ({number} of {len(jobs)}): {f'{job.shard.rows} rows' if new else 'was done'}")
    remove_shards(output, [job.shard.name for job in jobs])
    return RewardSummary(_count(jobs), made, len(jobs) - made)


def _check_images(jobs: Sequence[RewardJob], folder: str) -> None:
    """Raises `VlfilterError` when not one of the first images is there: the folder is probably another one."""
    if not is_local(folder):
        return  # an object store would list all of it
    if all(shard_footer(job.url, job.parts) for job in jobs):
        return  # nothing is left to do
    names = [name for name, _ in zip(_image_names(jobs), range(PROBED), strict=False)]
    if names and len(missing_paths(names, folder)) == len(set(names)):
        raise VlfilterError(
            f"none of the first {len(set(names))} images is in {folder}, the first is {names[0]}: give the folder that "
            "the paths in the annotations start from."
        )


def _image_names(jobs: Sequence[RewardJob]) -> Iterator[str]:
    for job in jobs:
        yield from filter(None, job.shard.read(["image"])["image"].to_pylist())


def _count(jobs: Sequence[RewardJob]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for job in jobs:
        footer = shard_footer(job.url, job.parts)
        total.update(footer.counts if footer else {})
    return {str(status): total[status] for status in Status if total[status]}
