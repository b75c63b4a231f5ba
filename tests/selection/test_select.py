from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.selection.tables import keys_of, schema, uid, write_scorer
from vlfilter.data.storage import filesystem, read_bytes
from vlfilter.data.subset import UID_DTYPE, read_subset
from vlfilter.errors import VlfilterError
from vlfilter.selection.select import select

SHARDS, ROWS = 5, 300


def write_tables(root: str) -> pd.DataFrame:
    """Two scorers over five shards; returns all rows as one frame."""
    random = np.random.default_rng(7)
    frames = []
    for number in range(SHARDS):
        shard = f"{number:03d}"
        clip = random.normal(0.25, 0.05, ROWS).astype(np.float32)
        quality = random.integers(0, 6, ROWS).astype(np.float32)
        clip[random.integers(0, ROWS, 9)] = np.nan
        write_scorer(root, "clip_score", shard, {"clip_score": clip.tolist()}, schema(clip_score=pa.float32()))
        write_scorer(root, "unifilter", shard, {"quality_score": quality.tolist()}, schema(quality_score=pa.float32()))
        keys = keys_of(shard, ROWS)
        frames.append(pd.DataFrame({"key": keys, "shard": shard, "clip_score": clip, "quality_score": quality}))
    frame = pd.concat(frames, ignore_index=True)
    frame["uid"] = [uid(key) for key in frame["key"]]
    return frame


def expected(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `quality_score >= 2.5 and clip_score >= top(30%)`; clip scores have no ties here."""
    count = int(frame["clip_score"].notna().sum() * 30 // 100)
    threshold = frame["clip_score"].sort_values(ascending=False).iloc[count - 1]
    return frame[(frame["quality_score"] >= 2.5) & (frame["clip_score"] >= threshold)]


RULE = "quality_score >= 2.5 and clip_score >= top(30%)"


def datacomp_bytes(uids: list[str]) -> bytes:
    """As DataComp's `baselines.py` writes a subset."""
    packed = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], np.dtype("u8,u8"))
    packed.sort()
    file = io.BytesIO()
    np.save(file, packed)
    return file.getvalue()


def test_npy_is_what_datacomp_writes(tmp_path: Path) -> None:
    frame = write_tables(str(tmp_path / "scores"))
    summary = select(str(tmp_path / "scores"), str(tmp_path / "new" / "kept.npy"), where=RULE)
    want = expected(frame)
    assert (tmp_path / "new" / "kept.npy").read_bytes() == datacomp_bytes(want["uid"].tolist())
    assert (summary.rows, summary.kept, summary.duplicates) == (SHARDS * ROWS, len(want), 0)
    assert summary.candidates == frame["clip_score"].notna().sum()
    ((text, threshold),) = summary.thresholds
    assert text == "clip_score >= top(30%)"
    assert threshold.rows == frame["clip_score"].notna().sum()
    assert threshold.kept == threshold.rows * 30 // 100
    assert any(f"kept {len(want)} of" in line for line in summary.lines())


def test_published_bytes_of_a_subset(tmp_path: Path) -> None:
    uids = ["6e356964a967af455c8016b75d691203", "139e4a9b22a614771f06c700a8ebe150"]
    write_scorer(str(tmp_path / "s"), "clip", "a", {"x": [1.0, 2.0]}, schema(x=pa.float32()), uids=uids)
    select(str(tmp_path / "s"), str(tmp_path / "kept.npy"), where="x > 0")
    data = (tmp_path / "kept.npy").read_bytes()
    assert len(data) == 160
    assert data[128:].hex() == "7714a6229b4a9e1350e1eba800c7061f45af67a96469356e0312695db716805c"
    assert hashlib.sha256(data).hexdigest() == "6081951ff3c02116751ce8a7b98f908ba7cbbb8beb6fc928d20bbf0114f6cee9"


def test_parquet_and_keys_name_the_same_samples(tmp_path: Path) -> None:
    frame = write_tables(str(tmp_path / "scores"))
    want = expected(frame)
    for suffix in ("parquet", "txt"):
        select(str(tmp_path / "scores"), str(tmp_path / f"kept.{suffix}"), where=RULE)
    table = pq.read_table(tmp_path / "kept.parquet")
    assert table.column_names == ["uid", "key", "shard", "quality_score", "clip_score"]
    assert table["key"].to_pylist() == want["key"].tolist()  # in order of shard, then of the tar
    assert table["shard"].to_pylist() == want["shard"].tolist()
    assert table["clip_score"].to_numpy().tolist() == want["clip_score"].tolist()
    assert (tmp_path / "kept.txt").read_text() == "".join(f"{key}\n" for key in want["key"])
    kept, dropped = want.iloc[0], frame.drop(want.index).iloc[0]
    for name in ("kept.parquet", "kept.txt"):
        subset = read_subset(str(tmp_path / name))
        assert len(subset) == len(want)
        assert (subset.count(kept["uid"], kept["key"]), subset.count(dropped["uid"], dropped["key"])) == (1, 0)


def test_s3_all_the_way(s3: str, tmp_path: Path) -> None:
    frame = write_tables(f"{s3}/scores")
    for suffix in ("npy", "parquet", "txt"):
        select(f"{s3}/scores", f"{s3}/subsets/kept.{suffix}", where=RULE)
        assert len(read_subset(f"{s3}/subsets/kept.{suffix}")) == len(expected(frame))
    assert read_bytes(f"{s3}/subsets/kept.npy") == datacomp_bytes(expected(frame)["uid"].tolist())
    fs, path = filesystem(f"{s3}/subsets")
    assert sorted(name.rsplit("/", 1)[-1] for name in fs.ls(path)) == ["kept.npy", "kept.parquet", "kept.txt"]


def test_a_uid_that_is_kept_twice_is_written_once(tmp_path: Path) -> None:
    for shard in ("a", "b"):
        write_scorer(
            str(tmp_path / "s"), "clip", shard, {"x": [1.0, 2.0]}, schema(x=pa.float32()),
            uids=[uid("twice"), uid(shard)], keys=["0", "1"],
        )  # fmt: skip
    for suffix in ("npy", "parquet", "txt"):
        summary = select(str(tmp_path / "s"), str(tmp_path / f"kept.{suffix}"), where="x > 0")
        assert (summary.kept, summary.duplicates) == (4, 2 if suffix == "txt" else 1)
        assert "repeat another" in summary.lines()[-1]
        subset = read_subset(str(tmp_path / f"kept.{suffix}"))
        assert subset.count(uid("twice"), "0") == 1
    assert len(np.load(tmp_path / "kept.npy")) == 3


def test_nothing_kept_is_an_empty_subset(tmp_path: Path) -> None:
    write_tables(str(tmp_path / "scores"))
    for suffix in ("npy", "parquet", "txt"):
        summary = select(str(tmp_path / "scores"), str(tmp_path / f"kept.{suffix}"), where="clip_score >= top(0%)")
        assert summary.kept == 0
        assert len(read_subset(str(tmp_path / f"kept.{suffix}"))) == 0


@pytest.mark.parametrize("name", ["kept.csv", "kept", "kept.npy/"])
def test_a_name_without_a_subsets_suffix_is_refused(tmp_path: Path, name: str) -> None:
    write_tables(str(tmp_path / "scores"))
    with pytest.raises(VlfilterError):
        select(str(tmp_path / "scores"), f"{tmp_path}/{name}", where=RULE)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """A uid that DataComp's format cannot hold shows only while rows are written."""
    write_scorer(str(tmp_path / "s"), "clip", "a", {"x": [1.0]}, schema(x=pa.float32()), uids=["no hex"])
    (tmp_path / "kept.npy").write_bytes(b"old")
    with pytest.raises(VlfilterError, match=r"shard a: the uid 'no hex'.*\.parquet"):
        select(str(tmp_path / "s"), str(tmp_path / "kept.npy"), where="x > 0")
    assert (tmp_path / "kept.npy").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.npy", "s"]
    assert select(str(tmp_path / "s"), str(tmp_path / "kept.parquet"), where="x > 0").kept == 1


def test_a_key_with_a_line_break_fits_no_list(tmp_path: Path) -> None:
    write_scorer(str(tmp_path / "s"), "clip", "a", {"x": [1.0]}, schema(x=pa.float32()), keys=["a\nb"])
    with pytest.raises(VlfilterError, match="line break"):
        select(str(tmp_path / "s"), str(tmp_path / "kept.txt"), where="x > 0")


def test_no_tables_and_no_place_to_write(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="no score tables"):
        select(str(tmp_path), str(tmp_path / "kept.npy"), where=RULE)
    write_tables(str(tmp_path / "scores"))
    (tmp_path / "file").write_text("")
    with pytest.raises(VlfilterError, match="not writable"):
        select(str(tmp_path / "scores"), str(tmp_path / "file" / "kept.npy"), where=RULE)


def test_datacomps_own_files_are_read(tmp_path: Path) -> None:
    """With repeated uids, without npy header (np.memmap), and unsorted."""
    pairs = [(3, 4), (1, 2), (3, 4), (2**64 - 1, 0)]
    packed = np.array(sorted(pairs), UID_DTYPE)
    np.save(tmp_path / "a.npy", packed)
    (tmp_path / "b.npy").write_bytes(packed.tobytes())
    np.save(tmp_path / "c.npy", np.array(pairs, UID_DTYPE))
    for name in "abc":
        subset = read_subset(str(tmp_path / f"{name}.npy"))
        assert len(subset) == 4
        counts = [subset.count(f"{high:016x}{low:016x}", "") for high, low in [(1, 2), (3, 4), (2**64 - 1, 0), (3, 5)]]
        assert counts == [1, 2, 1, 0]
        assert subset.count("", "") == subset.count("no hex", "") == 0
        assert isinstance(subset.packed, np.memmap) == (name != "c")  # the sorted ones stay on disk


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", b"\x93NUMPY\x01\x00"),
        ("b.npy", b"17 bytes, no more"),
        ("c.parquet", b"PAR1"),
        ("d.txt", b"\xff\xfe"),
        ("e.csv", b""),
    ],
)
def test_what_is_no_subset_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VlfilterError, match=name.replace(".", r"\.")):
        read_subset(str(tmp_path / name))
    with pytest.raises(VlfilterError, match="no subset file"):
        read_subset(str(tmp_path / "missing.npy"))


def test_an_array_of_another_type_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    with pytest.raises(VlfilterError, match="int64"):
        read_subset(str(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(VlfilterError, match="no DataComp subset"):
        read_subset(str(tmp_path / "b.npy"))
