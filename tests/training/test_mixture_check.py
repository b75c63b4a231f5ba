"""A look at data sets before anything is trained: what is missing is told with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.methods.minigpt_v2.world import make_world
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.methods.minigpt_v2.mixtures import open_mixture
from vlfilter.training.mixture_check import DatasetState, look_at, require_ready


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_world(tmp_path / "data")


def states(data: Path, **how: Any) -> dict[str, DatasetState]:
    return {state.name: state for state in look_at(open_mixture("minigpt_v2_dataengine", str(data)), 42, **how)}


def test_what_is_missing_is_told_with_its_place(data: Path) -> None:
    (data / "gqa" / "train_balanced_questions.json").unlink()
    (data / "refcoco" / "refcocog" / "refs(umd).p").unlink()
    for image in (data / "textcaps" / "train_images").iterdir():
        image.unlink()
    (data / "textcaps" / "train_images").rmdir()
    found = {name: state.problems for name, state in states(data).items() if not state.ready}
    assert found == {
        "gqa": (f"there is no annotation file {data}/gqa/train_balanced_questions.json",),
        "refcocog": (f"there is no annotation file {data}/refcoco/refcocog/refs(umd).p",),
        "invrefcocog": (f"there is no annotation file {data}/refcoco/refcocog/refs(umd).p",),
        "textcaps_caption": (f"there is no image folder {data}/textcaps/train_images",),
    }


def test_images_that_are_missing_or_broken(data: Path) -> None:
    (data / "ocrvqa" / "images" / "book2.jpg").unlink()
    (data / "flickr" / "flickr30k-images" / "0.jpg").write_bytes(b"no JPEG")
    found = states(data)
    books = found["ocrvqa"]
    assert (books.images, books.absent, books.rows, len(books.looks)) == (3, 1, 6, 3)
    assert books.problems == (
        "2 of 6 rows cannot be used",
        f"1 images are missing, such as {data}/ocrvqa/images/book2.jpg",
    )
    assert "image 0.jpg cannot be used" in found["flickr_grounded_caption"].problems[0]
    assert states(data, bad_rows=0.4)["ocrvqa"].ready
    assert states(data, samples=0)["flickr_grounded_caption"].ready, "nothing is decoded"


def test_rows_that_cannot_be_read(data: Path) -> None:
    questions = data / "okvqa" / "okvqa_train.json"
    rows = json.loads(questions.read_text())
    questions.write_text(json.dumps([*rows, {"image": "train2014/x.jpg", "question": "?"}]))
    (data / "llava" / "detail_23k.json").write_text("[{")
    (data / "vqav2" / "vqa_train.json").write_text("[]")
    found = states(data)
    assert found["ok_vqa"].problems == ("1 of 5 rows cannot be used", "row 4 (train2014/x.jpg): it has no answer")
    assert "detail_23k.json is not a JSON file" in found["llava_detail"].problems[0]
    assert found["coco_vqa"].problems == (
        "0 of 0 rows cannot be used",
        "4 rows are left out: its image's path has no 'train2014'",
    )
    with pytest.raises(VlfilterError, match=r"3 of 25 data sets cannot be trained on:\n  llava_detail: data set"):
        require_ready(list(found.values()))


def check(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["datasets", "check", *arguments])


def test_the_command_says_what_is_there(data: Path) -> None:
    found = check("minigpt_v2_dataengine", "--data", str(data), "--show")
    assert found.exit_code == 0, found.output
    assert "25 of 25 data sets are ready" in found.output
    assert "coco_vqa: 4 rows are left out: its image's path has no 'train2014'" in found.output
    assert "'[vqa] where is number 0?'\n  'it is at the top right'" in found.output
    (data / "gqa" / "train_balanced_questions.json").unlink()
    lacking = check("minigpt_v2_dataengine", "--data", str(data))
    assert lacking.exit_code == 1
    assert f"gqa: there is no annotation file {data}/gqa/train_balanced_questions.json" in lacking.output
    assert "24 of 25 data sets are ready" in lacking.output


def test_a_written_mixture_is_one_to_add_to(data: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    CliRunner().invoke(app, ["datasets", "write", "minigpt_v2_baseline", str(mine), "--data", str(data)])
    entry = f"- {{name: more, schema: vqa, data: {data}/okvqa/okvqa_train.json, images: {data}/COCO2014/train,\n"
    entry += '   image_name: "{name}", template: question, answer: most_common, sample_ratio: 5, batch_size: 2}\n'
    mine.write_text(mine.read_text() + entry)
    found = check(str(mine))
    assert found.exit_code == 0, found.output
    assert "23 of 23 data sets are ready" in found.output


def test_a_config_that_is_none(tmp_path: Path) -> None:
    for arguments, message in ((["none.yaml"], "there is no mixture"), (["minigpt_v2_baseline"], "say which folder")):
        found = check(*arguments)
        assert found.exit_code != 0
        assert message in str(found.exception)
