"""Features from .npz files and from folders of Parquet shards: one matrix, and reasons for rows without a vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlfilter.data.features import Features, open_features
from vlfilter.errors import VlfilterError

RANDOM = np.random.default_rng(3)


def save(folder: Path, name: str, columns: dict[str, Any], vectors: np.ndarray | None = None) -> None:
    table = pa.table(columns)
    if vectors is not None:
        bad = pa.array([status != "ok" for status in columns["status"]])
        flat = pa.array(vectors.ravel())
        lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=bad)
        table = table.append_column("vector", lists)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / f"{name}.parquet")


def save_clip(folder: Path, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """5 texts in two shards over 3 images, one of them unusable; the id 3 has no image, the text of id 4 failed."""
    texts = RANDOM.normal(size=(6, 4)).astype(dtype)
    images = RANDOM.normal(size=(3, 3)).astype(dtype)
    save(
        folder / "images",
        "00000",
        {"image": ["a", "b"], "status": ["ok", "ok"], "reason": pa.nulls(2, pa.string())},
        images[:2],
    )
    save(
        folder / "images",
        "00001",
        {"image": ["gone"], "status": ["missing_image"], "reason": ["no such file"]},
        images[2:],
    )
    ok = {"status": ["ok"] * 3, "reason": pa.nulls(3, pa.string())}
    save(folder / "texts", "00000", {"id": [0, 1, 2], "image": ["b", "a", "b"], **ok}, texts[:3])
    second = {"id": [3, 4, 5], "image": [None, "a", "gone"], "status": ["ok", "failed", "ok"]}
    save(folder / "texts", "00001", {**second, "reason": [None, "empty text", None]}, texts[3:])
    return images, texts


@pytest.mark.parametrize("memory", [2**30, 0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_clip_features_are_the_image_half_then_the_text_half(tmp_path: Path, memory: int, dtype: str) -> None:
    images, texts = save_clip(tmp_path / "clip", dtype)
    features = open_features(str(tmp_path / "clip"), str(tmp_path / "work"), memory)
    assert features.ids.tolist() == [0, 1, 2]
    assert features.dim == 7
    expected = np.concatenate([images[[1, 0, 1]], texts[:3]], axis=1).astype(np.float32)
    assert features.take([0, 1, 2]).dtype == np.float32
    np.testing.assert_array_equal(features.take([0, 1, 2]), expected)
    reasons = dict(features.left_out)
    assert "no image" in reasons[3]
    assert reasons[4] == "empty text"
    assert "no such file" in reasons[5]
    assert isinstance(features.matrix, np.memmap) is (memory == 0)
    assert not list((tmp_path / "work").glob("*")), "a work file has no name"


def test_scores_are_three_columns_in_the_published_order(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "id": [4, 7, 1],
        "judge_score": [0.5, None, 1.0],
        "clip_score": [0.1, 0.2, 0.3],
        "image_reward": [-1.0, 0.0, 1.0],
        "status": ["ok", "refused", "ok"],
        "reason": [None, "the judge refused", None],
    }
    save(tmp_path, "00000", columns)
    features = open_features(str(tmp_path))
    assert features.ids.tolist() == [1, 4]
    np.testing.assert_array_equal(features.take([4, 1]), np.array([[0.1, -1.0, 0.5], [0.3, 1.0, 1.0]], np.float32))
    assert features.left_out == ((7, "the judge refused"),)


@pytest.mark.parametrize("memory", [2**30, 0])
@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_npz_row_i_is_id_i(tmp_path: Path, memory: int, save_npz: Any, dtype: str) -> None:
    matrix = RANDOM.normal(size=(20_000, 3)).astype(dtype)
    matrix[[5, 9000]] = [np.nan, 0, 0], [0, np.inf, 0]
    save_npz(tmp_path / "features.npz", other=np.arange(3), features=matrix)
    before = (tmp_path / "features.npz").read_bytes()
    features = open_features(str(tmp_path / "features.npz"), memory_bytes=memory)
    assert [i for i, _ in features.left_out] == [5, 9000]
    assert len(features) == 19_998
    good = np.delete(matrix, [5, 9000], axis=0).astype(np.float32)
    np.testing.assert_array_equal(features.take(features.ids), good)
    starts, blocks = zip(*features.blocks(6000), strict=True)
    np.testing.assert_array_equal(np.concatenate(blocks), good)
    assert starts == (0, 6000, 12000, 18000)
    assert (tmp_path / "features.npz").read_bytes() == before
    with pytest.raises(VlfilterError, match="the first is 9000: a feature is NaN"):
        features.take([1, 9000])
    with pytest.raises(VlfilterError, match="no such row"):
        features.take([20_000])


def test_large_finite_float16_rows_are_no_infinities() -> None:
    features = Features.of(np.full((2, 100), 60_000, np.float16))
    assert len(features) == 2
    assert not features.left_out


def test_made_of_changes_with_the_files(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    np.savez(path, features=np.ones((2, 2), np.float32))
    first = open_features(str(path)).made_of
    assert first == open_features(str(path)).made_of
    np.savez(path, features=np.ones((3, 2), np.float32))
    assert first != open_features(str(path)).made_of


def test_a_matrix_that_was_given_is_not_written_to() -> None:
    matrix = np.array([[1, 2], [np.nan, 1]], np.float32)
    assert Features.of(matrix).left_out[0][0] == 1
    assert np.isnan(matrix[1, 0])


def test_an_id_that_occurs_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="more than once: 7"):
        Features.of(np.ones((3, 2), np.float32), [7, 1, 7])
    save_clip(tmp_path)
    save_clip(tmp_path / "again")
    (tmp_path / "again" / "texts" / "00000.parquet").rename(tmp_path / "texts" / "00002.parquet")
    with pytest.raises(VlfilterError, match="more than once: 0, 1, 2"):
        open_features(str(tmp_path))


def test_texts_that_are_missing_beside_their_images_are_told(tmp_path: Path) -> None:
    save_clip(tmp_path)
    (tmp_path / "texts" / "00001.parquet").unlink()
    with pytest.raises(VlfilterError, match=r"not whole, .*images/00001\.parquet has no counterpart in texts/"):
        open_features(str(tmp_path))


def test_unreadable_features_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="no features at"):
        open_features(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(VlfilterError, match="neither CLIP features"):
        open_features(str(tmp_path / "empty"))
    np.savez(tmp_path / "wrong.npz", vectors=np.ones((2, 2)))
    with pytest.raises(VlfilterError, match="no array `features`"):
        open_features(str(tmp_path / "wrong.npz"))
    np.savez(tmp_path / "flat.npz", features=np.ones(2))
    with pytest.raises(VlfilterError, match="floating-point matrix"):
        open_features(str(tmp_path / "flat.npz"))
    np.savez(tmp_path / "torn.npz", features=np.ones((50, 50)))
    torn = (tmp_path / "torn.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(torn[: len(torn) // 2])
    with pytest.raises(VlfilterError, match=r"cannot be read as an \.npz"):
        open_features(str(tmp_path / "torn.npz"))
    save_clip(tmp_path / "clip")
    (tmp_path / "clip" / "texts" / "00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(VlfilterError, match="damaged"):
        open_features(str(tmp_path / "clip"))
