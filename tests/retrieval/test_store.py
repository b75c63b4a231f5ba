"""An index is built once: from tars, COCO or a folder; resumed part by part; nothing that cannot be read is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import jpeg, pairs, tar_bytes
from vlfilter.data.storage import write_bytes
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.models.clip import load_clip, save_clip
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.preprocess import normalise, to_pixels
from vlfilter.models.presets import build_clip, clip_images
from vlfilter.retrieval import sources
from vlfilter.retrieval.embed import EmbedSettings
from vlfilter.retrieval.sources import coco_images, folder_images, image_set, tar_images
from vlfilter.retrieval.store import build_index, open_index


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> EmbedSettings:
    folder = tmp_path_factory.mktemp("model") / "clip"
    tokenizer = openai_tokenizer()
    torch.manual_seed(0)
    save_clip(folder, build_clip("clip_micro", tokenizer), tokenizer, clip_images("clip_micro"))
    return EmbedSettings(str(folder), device="cpu", batch=3, workers=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images, one of them cut short, one no image at all."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for number in range(5):
        (images / f"{number:012d}.jpg").write_bytes(jpeg(number, (40 + number, 30)))
    (images / "sub" / "cat.JPG").write_bytes(jpeg(7))
    (images / "000000000005.jpg").write_bytes(jpeg(5)[:90])
    (images / "000000000006.jpg").write_bytes(b"<html>")
    (images / "notes.txt").write_text("no image")
    return images


def test_vectors_are_those_of_the_clip_one_by_one(folder: Path, tmp_path: Path, settings: EmbedSettings) -> None:
    told: list[str] = []
    summary = build_index(folder_images(str(folder)), str(tmp_path / "index"), settings, told.append)
    assert summary.images == {"ok": 6, "corrupt_image": 2}
    assert summary.made == 1
    assert summary.reasons["corrupt_image"].startswith("000000000005.jpg: ")
    assert told == ["00000 (1 of 1): embedded"]
    index = open_index(str(tmp_path / "index"))
    assert index.ids == (0, 1, 2, 3, 4, "sub/cat")
    assert index.model == settings.model
    assert index.left_out == {"corrupt_image": 2}
    clip = load_clip(settings.model)
    from PIL import Image

    for image, name in ((3, "000000000003.jpg"), ("sub/cat", "sub/cat.JPG")):
        pixels = torch.from_numpy(to_pixels(Image.open(folder / name).convert("RGB"), clip.images))[None]
        with torch.inference_mode():
            features = torch.nn.functional.normalize(clip.encode_images(normalise(pixels, clip.images)), dim=-1)
        np.testing.assert_allclose(index.vectors[index.row_of[image]], features[0].numpy(), atol=1e-5)
    nearest = index.search(index.vectors[2:3], 3)
    assert index.ids[nearest.rows[0, 0]] == 2


def test_every_image_is_one_row_with_its_reason(folder: Path, tmp_path: Path, settings: EmbedSettings) -> None:
    annotations = tmp_path / "instances.json"
    listed = [{"id": 900 + i, "file_name": f"{i:012d}.jpg"} for i in (4, 2, 5)]
    listed.append({"id": 99, "file_name": "gone.jpg"})
    listed.append({"id": 98, "file_name": "../secret.jpg"})
    annotations.write_text(json.dumps({"images": listed, "annotations": [], "categories": []}))
    summary = build_index(coco_images(str(folder), str(annotations)), str(tmp_path / "index"), settings)
    assert summary.images == {"ok": 2, "corrupt_image": 1, "missing_image": 2}
    assert open_index(str(tmp_path / "index")).ids == (904, 902)
    with open_parquet(str(tmp_path / "index" / "vectors" / "00000.parquet")) as file:
        rows = file.read(columns=["image_id", "key", "status", "reason"]).to_pylist()
    assert rows[0] == {"image_id": "904", "key": "000000000004.jpg", "status": "ok", "reason": None}
    assert rows[3]["reason"] == "there is no image gone.jpg"
    assert "leads out" in rows[4]["reason"]


def test_a_stopped_run_goes_on_and_a_changed_part_is_made_again(
    folder: Path, tmp_path: Path, settings: EmbedSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PART", 3)
    output = str(tmp_path / "index")

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("00001"):
            raise StoppedError

    with pytest.raises(StoppedError):
        build_index(folder_images(str(folder)), output, settings, stop)
    with pytest.raises(VlfilterError, match="not finished"):
        open_index(output)
    assert build_index(folder_images(str(folder)), output, settings).kept == 2
    first = {path.name: path.read_bytes() for path in (tmp_path / "index" / "vectors").iterdir()}
    assert build_index(folder_images(str(folder)), output, settings).made == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "index" / "vectors").iterdir()} == first
    (folder / "000000000005.jpg").write_bytes(jpeg(5))
    again = build_index(folder_images(str(folder)), output, settings)
    assert (again.made, again.kept, again.images) == (1, 2, {"ok": 7, "corrupt_image": 1})
    for name in ("000000000006.jpg", "sub/cat.JPG"):
        (folder / name).unlink()
    fewer = build_index(folder_images(str(folder)), output, settings)
    assert fewer.images == {"ok": 6}
    assert open_index(output).ids == (0, 1, 2, 3, 4, 5)


def test_tars(tmp_path: Path, settings: EmbedSettings) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    samples = pairs(4)
    samples[2] = (samples[2][0], {"txt": b"no image"})
    (shards / "0.tar").write_bytes(tar_bytes(samples))
    (shards / "1.tar").write_bytes(tar_bytes([("name", samples[0][1]), ("000000001", samples[1][1])]))
    summary = build_index(image_set([str(shards)]), str(tmp_path / "index"), settings)
    assert summary.images == {"ok": 5, "missing_image": 1}
    index = open_index(str(tmp_path / "index"))
    assert index.ids == (0, 1, 3, "name")
    assert index.left_out["the id occurs twice"] == 1
    (shards / "1.tar").write_bytes(b"this is no tar" * 100)
    with pytest.raises(VlfilterError, match="1 of 2 parts"):
        build_index(tar_images(str(shards)), str(tmp_path / "index"), settings)


def test_nothing_to_index(tmp_path: Path, folder: Path, settings: EmbedSettings) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(VlfilterError, match="no images in"):
        image_set([str(empty)])
    (empty / "x.jpg").write_bytes(b"")
    with pytest.raises(VlfilterError, match=r"no image could be embedded, of 1: x\.jpg: the image has zero bytes"):
        build_index(image_set([str(empty)]), str(tmp_path / "index"), settings)
    with pytest.raises(VlfilterError, match="no image index"):
        open_index(str(tmp_path / "nowhere"))
    (tmp_path / "list.json").write_text('{"images": [{"id": 1, "file_name": "other.jpg"}]}')
    with pytest.raises(VlfilterError, match=r"none of the 1 images .* such as other\.jpg"):
        image_set([str(folder)], str(tmp_path / "list.json"))
    (tmp_path / "list.json").write_text('{"images": 3}')
    with pytest.raises(VlfilterError, match="no COCO annotation file"):
        image_set([str(folder)], str(tmp_path / "list.json"))


def test_a_damaged_index(folder: Path, tmp_path: Path, settings: EmbedSettings) -> None:
    output = tmp_path / "index"
    build_index(folder_images(str(folder)), str(output), settings)
    table = output / "vectors" / "00000.parquet"
    table.write_bytes(table.read_bytes()[:-50])
    with pytest.raises(VlfilterError, match="is damaged"):
        open_index(str(output))
    assert build_index(folder_images(str(folder)), str(output), settings).made == 1
    assert len(open_index(str(output))) == 6


def test_images_and_index_on_s3(s3: str, folder: Path, settings: EmbedSettings) -> None:
    for path in folder.rglob("*.*"):
        write_bytes(f"{s3}/images/{path.relative_to(folder)}", path.read_bytes())
    images = image_set([f"{s3}/images"])
    summary = build_index(images, f"{s3}/index", settings)
    assert summary.images == {"ok": 6, "corrupt_image": 2}
    assert open_index(f"{s3}/index").ids == (0, 1, 2, 3, 4, "sub/cat")
    assert build_index(image_set([f"{s3}/images"]), f"{s3}/index", settings).made == 0
    with pytest.raises(VlfilterError, match="no image index at"):
        open_index(f"{s3}/nowhere")
