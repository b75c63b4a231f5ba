"""The shards, as the project's own reader sees them, against the truth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skimage")

from vlfilter.data.decode import decode_sample
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import ImageText, Sample, Status
from vlfilter.data.shards import list_shards
from vlfilter.demo.captions import VAGUE, label_of
from vlfilter.demo.data import DataSizes, write_data
from vlfilter.demo.spoil import SHARES, Kind

SIZES = DataSizes(pool=200, test=40, shards=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    write_data(str(path), SIZES, seed=0)
    return path


@pytest.fixture(scope="module")
def truth(folder: Path) -> dict[str, dict[str, str]]:
    return {row["uid"]: row for row in pq.read_table(folder / "truth.parquet").to_pylist()}


def _read(folder: Path) -> list[tuple[str, Sample]]:
    return [(shard.name, decode_sample(raw)) for shard in list_shards(str(folder)) for raw in ShardReader(shard)]


@pytest.fixture(scope="module")
def pool(folder: Path) -> list[tuple[str, Sample]]:
    return _read(folder / "shards")


def test_truth_has_exactly_the_pools_samples(pool: list[tuple[str, Sample]], truth: dict[str, dict[str, str]]) -> None:
    assert len(pool) == len(truth) == SIZES.pool
    for shard, sample in pool:
        assert (truth[sample.uid]["shard"], truth[sample.uid]["key"]) == (shard, sample.key)
    assert len({shard for shard, _ in pool}) == SIZES.shards


def test_the_planted_shares_are_exact(truth: dict[str, dict[str, str]]) -> None:
    counts = Counter(row["kind"] for row in truth.values())
    assert counts[Kind.BROKEN] == 2
    for kind, share in SHARES.items():
        assert abs(counts[kind] - share * SIZES.pool) <= 2  # a broken sample may have been one of these
    assert sum(SHARES.values()) < 0.5


def test_every_sample_is_what_the_truth_says(pool: list[tuple[str, Sample]], truth: dict[str, dict[str, str]]) -> None:
    sharp, dull = [], []
    for _, sample in pool:
        row = truth[sample.uid]
        if row["kind"] == Kind.BROKEN:
            assert sample.problem is not None
            continue
        assert isinstance(sample.content, ImageText), sample.problem
        named = label_of(sample.content.caption)
        if row["kind"] == Kind.VAGUE_CAPTION:
            assert sample.content.caption in VAGUE
        else:
            assert (named == row["label"]) == (row["kind"] != Kind.WRONG_CAPTION), sample.content.caption
        detail = float(np.abs(np.diff(np.asarray(sample.content.image.convert("L"), np.int16))).mean())
        if row["kind"] == Kind.BLANK:
            assert detail < 0.5
        else:
            (dull if row["kind"] == Kind.BLURRED else sharp).append(detail)
    assert np.median(dull) < np.median(sharp) / 2


def test_broken_samples_have_their_reasons(pool: list[tuple[str, Sample]]) -> None:
    statuses = {sample.problem.status for _, sample in pool if sample.problem}
    assert statuses == {Status.CORRUPT_IMAGE, Status.MISSING_TEXT}


def test_formats_are_mixed(folder: Path) -> None:
    raws = [raw for shard in list_shards(str(folder / "shards")) for raw in ShardReader(shard)]
    counts = Counter(member.extension for raw in raws for member in raw.members)
    assert min(counts["jpg"], counts["png"], counts["webp"]) > SIZES.pool / 6
    assert counts["json"] == SIZES.pool


def test_the_test_set_is_clean_and_shares_no_uid(folder: Path, truth: dict[str, dict[str, str]]) -> None:
    tests = [sample for _, sample in _read(folder / "test")]
    assert len(tests) == SIZES.test
    assert all(isinstance(s.content, ImageText) and label_of(s.content.caption) for s in tests)
    assert not {s.uid for s in tests} & set(truth)


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_data(str(tmp_path), SIZES, seed=0)
    for path in sorted(folder.rglob("*.tar")):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()
