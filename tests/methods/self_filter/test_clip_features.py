"""CLIP features against transformers' own, one at a time; every row accounted for; stopped runs go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from tests.helpers import jpeg
from tests.methods.self_filter import small
from vlfilter.data.features import open_features
from vlfilter.data.storage import join, write_bytes
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.clip_encoder import ClipEncoder
from vlfilter.methods.self_filter.clip_features import ClipSettings, ClipSummary, clip_features, clip_scores


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.clip(tmp_path_factory.mktemp("models") / "clip")


def run(tmp_path: Path, model: Path, **changes: Any) -> ClipSummary:
    given: dict[str, Any] = {"model": str(model), "device": "cpu", "dtype": "float32", "batch": 2}
    settings = ClipSettings(**given | changes)
    folder = str(tmp_path / "images")
    return clip_features(str(tmp_path / "data"), folder, str(tmp_path / "clip"), settings)


def read(folder: Path | str, half: str) -> list[dict[str, Any]]:
    tables = []
    for name in sorted(os.listdir(join(str(folder), half))):
        with open_parquet(join(str(folder), half, name)) as file:
            tables += file.read().to_pylist()
    return tables


def stamps(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}


@pytest.fixture
def made(tmp_path: Path, model: Path) -> Path:
    small.data(tmp_path)
    small.images(tmp_path / "images")
    return tmp_path


def expected(model: Path, images: Path, text: str, image: str) -> np.ndarray:
    """The published procedure: one row at a time, image half first."""
    clip = CLIPModel.from_pretrained(model).eval()
    words = CLIPTokenizer.from_pretrained(model)(text, truncation=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(model)(
        Image.open(images / image).convert("RGB"), return_tensors="pt"
    )
    with torch.no_grad():
        out = clip(**words, **pixels)
    return torch.cat([out.image_embeds[0], out.text_embeds[0]]).numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
def test_equals_transformers_one_at_a_time(made: Path, model: Path, dtype: str, tolerance: float) -> None:
    summary = run(made, model, dtype=dtype, batch=4)
    features = open_features(str(made / "clip"))
    assert features.ids.tolist() == [0, 1, 2, 3, 4, 7]
    text_data = json.loads((made / "data" / "text_data.json").read_text())
    for i in features.ids.tolist():
        row = text_data[str(i)]
        target = expected(model, made / "images", row["text"], row["image"])
        assert features.take([i])[0] == pytest.approx(target, abs=tolerance)
        half = features.dim // 2
        assert clip_scores(features.take([i])) == pytest.approx([target[:half] @ target[half:]], abs=tolerance)
    assert summary.rows == {"ok": 6, "corrupt_image": 1, "missing_image": 2, "unsupported": 1}
    assert summary.images == {"ok": 3, "corrupt_image": 1, "missing_image": 1}


def test_every_row_is_there_with_its_reason_and_every_image_once(made: Path, model: Path) -> None:
    run(made, model)
    texts, images = read(made / "clip", "texts"), read(made / "clip", "images")
    assert [row["id"] for row in texts] == list(range(10))
    assert [(row["id"], row["status"]) for row in texts if row["vector"] is None] == [
        (5, "missing_image"),
        (8, "unsupported"),
    ]
    assert "text only" in texts[5]["reason"]
    assert "expected 'human'" in texts[8]["reason"]
    assert [row["image"] for row in images] == ["a.jpg", "b.jpg", "sub/c.jpg", "d.jpg", "f.jpg"]
    assert sorted(os.listdir(made / "clip" / "images")) == sorted(os.listdir(made / "clip" / "texts"))
    assert [row["status"] for row in images] == ["ok", "ok", "ok", "corrupt_image", "missing_image"]
    assert images[4]["reason"] == "there is no image f.jpg"
    assert all(np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-6) for row in texts + images if row["vector"])
    left_out = dict(open_features(str(made / "clip")).left_out)
    assert sorted(left_out) == [5, 6, 8, 9]


def test_the_batch_changes_no_vector(made: Path, model: Path) -> None:
    run(made, model, batch=1)
    alone = open_features(str(made / "clip"))
    settings = ClipSettings(str(model), "float32", device="cpu", batch=64)
    clip_features(str(made / "data"), str(made / "images"), str(made / "other"), settings)
    assert open_features(str(made / "other")).matrix == pytest.approx(alone.matrix, abs=1e-5)


def test_what_is_done_is_kept_and_what_changed_is_made_anew(made: Path, model: Path, tmp_path: Path) -> None:
    assert run(made, model).made == 8
    before = stamps(made / "clip")
    again = run(made, model, batch=3)
    assert (again.made, again.kept) == (0, 8)
    assert stamps(made / "clip") == before

    rows = small.entries()
    rows[4]["conversations"][1]["value"] = "another answer"
    small.data(tmp_path, rows=rows)
    run(made, model)
    changed = {name for name, stamp in stamps(made / "clip").items() if stamp != before[name]}
    assert changed == {"texts/00001.parquet"}

    (made / "clip" / "images" / "00002.parquet").write_bytes(b"torn")
    assert run(made, model).made == 1
    assert run(made, model, dtype="float16").made == 8
    small.data(tmp_path, rows=rows[:4])
    run(made, model, dtype="float16")
    assert sorted(stamps(made / "clip")) == [f"{h}/0000{i}.parquet" for h in ("images", "texts") for i in (0, 1)]


def test_images_that_were_mended_are_taken(made: Path, model: Path) -> None:
    run(made, model)
    write_bytes(str(made / "images" / "f.jpg"), jpeg(5))
    assert run(made, model).made == 1
    assert 9 in open_features(str(made / "clip")).ids
    write_bytes(str(made / "images" / "d.jpg"), jpeg(6))
    summary = run(made, model)
    assert summary.made == 1
    assert summary.images == {"ok": 5}


@pytest.mark.parametrize("spoiled", ["../a.jpg", "/etc/hostname", "sub", "a.jpg/b", "a\0.jpg"])
def test_paths_that_are_no_image_below_the_folder(spoiled: str, tmp_path: Path, model: Path) -> None:
    rows = small.entries()[:2]
    rows[0]["image"] = spoiled
    small.data(tmp_path, rows=rows)
    small.images(tmp_path / "images")
    write_bytes(str(tmp_path / "a.jpg"), jpeg(0))
    assert run(tmp_path, model).rows == {"ok": 1, "missing_image": 1}


def test_another_folder_is_told_before_anything_is_made(made: Path, model: Path, tmp_path: Path) -> None:
    settings = ClipSettings(str(model), device="cpu")
    with pytest.raises(VlfilterError, match=r"none of the 5 images .* the first is a\.jpg"):
        clip_features(str(made / "data"), str(tmp_path / "elsewhere"), str(made / "clip"), settings)
    assert not (made / "clip").exists() or stamps(made / "clip") == {}
    with pytest.raises(VlfilterError, match="self-filter preprocess"):
        clip_features(str(tmp_path / "nothing"), str(made / "images"), str(made / "clip"), settings)
    with pytest.raises(VlfilterError, match="stored as 'int8'"):
        ClipSettings(dtype="int8")


def test_a_batch_that_does_not_fit_is_halved(made: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    plain = ClipEncoder._images

    def small_memory(self: ClipEncoder, pixels: Sequence[np.ndarray]) -> np.ndarray:
        sizes.append(len(pixels))
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, pixels)

    small.data(made, rows_per_shard=10)
    run(made, model)
    whole = open_features(str(made / "clip")).matrix
    monkeypatch.setattr(ClipEncoder, "_images", small_memory)
    run(made, model, batch=4, dtype="float16")
    assert sizes == [3, 2, 1, 1, 1]  # the smaller batch is kept
    assert open_features(str(made / "clip")).matrix == pytest.approx(whole, abs=1e-3)


def test_vectors_that_are_not_finite_are_rows_that_failed(
    made: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ClipEncoder._texts

    def spoil(self: ClipEncoder, texts: Sequence[str]) -> np.ndarray:
        vectors = plain(self, texts)
        vectors[["What is 1" in text for text in texts]] = np.nan
        return vectors

    monkeypatch.setattr(ClipEncoder, "_texts", spoil)
    assert run(made, model).rows["failed"] == 1
    row = read(made / "clip", "texts")[1]
    assert (row["status"], row["vector"], row["reason"]) == ("failed", None, "its features are not finite numbers")


def test_on_object_storage(s3: str, tmp_path: Path, model: Path) -> None:
    data = small.data(tmp_path)
    for name, content in small.image_files().items():
        write_bytes(join(s3, "pictures", name), content)
    settings = ClipSettings(str(model), "float32", device="cpu")
    first = clip_features(data, join(s3, "pictures"), join(s3, "clip"), settings)
    assert first.rows == {"ok": 6, "corrupt_image": 1, "missing_image": 2, "unsupported": 1}
    assert clip_features(data, join(s3, "pictures"), join(s3, "clip"), settings).made == 0
    local = clip_features(data, small.images(tmp_path / "images"), str(tmp_path / "clip"), settings)
    assert local.images == first.images
    there, here = open_features(join(s3, "clip")), open_features(str(tmp_path / "clip"))
    assert (there.ids == here.ids).all()
    assert (there.matrix == here.matrix).all()


KILLED = """
import os, signal, sys
from vlfilter.methods.self_filter import clip_features as module
plain, count = module.write_shard, 0
def write(*args):
    global count
    plain(*args)
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
module.write_shard = write
data, images, output, model = sys.argv[1:]
module.clip_features(data, images, output, module.ClipSettings(model, "float32", device="cpu", batch=2))
"""


def test_a_killed_run_goes_on(made: Path, model: Path) -> None:
    places = [str(made / "data"), str(made / "images"), str(made / "clip"), str(model)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *places], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    before = stamps(made / "clip")
    assert sorted(before) == ["images/00000.parquet", "images/00001.parquet", "texts/00000.parquet"]
    with pytest.raises(VlfilterError, match="not finished: run `vlfilter self-filter features` to its end"):
        open_features(str(made / "clip"))
    summary = run(made, model)
    assert (summary.made, summary.kept) == (5, 3)
    assert all(stamps(made / "clip")[name] == stamp for name, stamp in before.items())
    assert open_features(str(made / "clip")).ids.tolist() == [0, 1, 2, 3, 4, 7]
