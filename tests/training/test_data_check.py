"""What cannot be trained on is told by id before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import jpeg
from tests.training import small
from vlfilter.data.annotations import Instruction, Turn, parse_instruction, read_instructions
from vlfilter.data.storage import write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import template
from vlfilter.models.preprocess import ImageSettings
from vlfilter.training.conversation_data import ConversationEncoder
from vlfilter.training.data_check import DataReport, check_data, refuse_bad
from vlfilter.training.dataset import ConversationDataset, collate


def encoder(max_length: int = 512) -> ConversationEncoder:
    tokenizer = small.tokenizer()
    return ConversationEncoder(tokenizer, template("vicuna_v1"), tokenizer.start, 36, max_length)


def row(name: str, image: str | None, answer: str = "85") -> Instruction:
    question = "<image>\nRate it." if image else "Rate it."
    return Instruction(name, (Turn("human", question), Turn("gpt", answer)), image)


@pytest.fixture
def images(tmp_path: Path) -> str:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(jpeg(1))
    (folder / "cut.jpg").write_bytes(jpeg(2)[:300])
    (folder / "page.jpg").write_bytes(b"<html>not found</html>")
    (tmp_path / "secret.jpg").write_bytes(jpeg(3))
    return str(folder)


def test_every_bad_row_is_told_by_id(images: str) -> None:
    rows = [
        row("a", "good.jpg"), row("b", "absent.jpg"), row("c", "cut.jpg"), row("d", "page.jpg"),
        row("e", "../secret.jpg"), row("f", None), row("g", "good.jpg", ""), row("h", "absent.jpg"),
    ]  # fmt: skip
    report = check_data(rows, images, encoder())
    assert report.rows == 8
    assert report.used == (0, 5, 6)
    assert [(bad.row, bad.id) for bad in report.bad] == [(1, "b"), (2, "c"), (3, "d"), (4, "e"), (7, "h")]
    reasons = [bad.reason for bad in report.bad]
    for reason, part in zip(reasons, ("missing", "broken", "a web page", "leaves the image folder"), strict=False):
        assert part in reason
    assert report.lengths[1] < 0, "without an image"
    assert report.lengths[0] > 36 - report.lengths[1], "images count with their positions"
    assert DataReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_row_whose_answer_lies_beyond_the_limit_is_not_silently_masked(images: str) -> None:
    length = encoder().encode(row("b", None)).length
    long = Instruction("a", (Turn("human", "Rate it. " * 20), Turn("gpt", "85")))
    report = check_data([long, row("b", None)], images, encoder(max_length=length))
    assert report.used == (1,)
    assert f"beyond {length} positions" in report.bad[0].reason


def test_images_may_lie_in_an_object_store(s3: str) -> None:
    write_bytes(f"{s3}/images/good.jpg", jpeg(1))
    report = check_data([row("a", "good.jpg"), row("b", "absent.jpg")], f"{s3}/images")
    assert report.used == (0,)
    assert "missing" in report.bad[0].reason


def test_too_many_bad_rows_are_refused_with_examples(images: str) -> None:
    rows = [row(str(i), "good.jpg") for i in range(99)] + [row("lost", "absent.jpg")]
    report = check_data(rows, images)
    refuse_bad(report, [], 0.01, "data.json")
    with pytest.raises(VlfilterError, match=r"(?s)data\.json: 1 of 100 rows.*0\.5%.*row 99 \(lost\).*absent\.jpg"):
        refuse_bad(report, [], 0.005, "data.json")
    with pytest.raises(VlfilterError, match=r"(?s)2 of 101 rows.*row 7 \(x\): no"):
        refuse_bad(report, ["row 7 (x): no"], 0.01, "data.json")
    with pytest.raises(VlfilterError, match="1 of 1 rows"):
        refuse_bad(check_data(rows[-1:], images), [], 1.0, "data.json")


def test_a_batch_is_what_the_model_takes(images: str, tmp_path: Path) -> None:
    settings = ImageSettings(24, 24, "pad")
    dataset = ConversationDataset([row("a", "good.jpg"), row("b", None)], images, encoder(), settings)
    batch = collate([dataset[0], dataset[1]])
    assert [tuple(image.shape) if image is not None else None for image in batch["images"]] == [(1, 3, 24, 24), None]
    assert [len(ids) for ids in batch["input_ids"]] == [len(labels) for labels in batch["labels"]]
    assert batch["images"][0].abs().max() <= 1.01
    (Path(images) / "good.jpg").unlink()
    with pytest.raises(VlfilterError, match=r"row a was checked, but now: image 'good\.jpg' is missing"):
        dataset[0]


def test_the_rows_of_the_tests_are_all_usable(tmp_path: Path) -> None:
    told = small.data(tmp_path, 24)
    rows, unreadable = read_instructions(told["data"])
    assert not unreadable
    report = check_data(rows, told["images"], encoder())
    assert report.used == tuple(range(24))
    assert parse_instruction(small.rows(1)[0]) == rows[0]
