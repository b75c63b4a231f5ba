"""The whole command against a server that speaks both APIs: images in, balanced rows and a full account out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.helpers import document, jpeg, make_tar, pairs
from tests.llm.vendor import Play, VendorServer, prompt_of
from tests.methods.unifilter.teacher import images_of, target_words, teacher
from vlfilter.cli.app import app
from vlfilter.data.quality_rows import QualityRow, read_quality_rows, require_levels
from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import BudgetExceededError
from vlfilter.methods.unifilter.texts import LevelText, Verdict, read_texts

VENDORS = {"anthropic": "anthropic:claude-sonnet-5-5", "openai": "openai:gpt-4o"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 pairs in two shards; 12 documents of one to three images in another."""
    make_tar(tmp_path / "pairs" / "0.tar", pairs(12))
    make_tar(tmp_path / "pairs" / "1.tar", pairs(12, start=12))
    documents = []
    for i in range(12):
        count = 1 + i % 3
        images = [jpeg(1000 + 10 * i + j, (64, 48)) for j in range(count)]
        slots: list[bytes | None] = [None, *(slot for image in images for slot in (image, None))]
        documents.append((f"d{i}", document([None if slot else "words" for slot in slots], slots)))
    make_tar(tmp_path / "documents.tar", documents)
    return tmp_path


def run(data: Path, vendor: VendorServer, name: str = "openai", *more: str, documents: bool = True) -> Result:
    given = ["unifilter", "synthesize", "--output", str(data / "out"), "--images", str(data / "pairs")]
    given += ["--documents-from", str(data / "documents.tar")] if documents else []
    given += ["--captions", "20", "--documents", "12", "--validation", "0.3", "--concurrency", "4"]
    given += ["--teacher", VENDORS[name], "--base-url", vendor.base_url(name), "--max-usd", "50"]
    return CliRunner().invoke(app, [*given, *more], catch_exceptions=False)


def rows(data: Path, side: str) -> list[QualityRow]:
    found, bad = read_quality_rows(str(data / "out" / f"{side}.json"))
    assert bad == []
    return found


def rejected(data: Path) -> list[LevelText]:
    return read_texts(str(data / "out" / "rejected.parquet"))


@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_the_whole_command(data: Path, vendor: VendorServer, name: str) -> None:
    vendor.answer = teacher()
    result = run(data, vendor, name)
    assert result.exit_code == 0, result.output
    assert len(vendor.questions()) == 32
    train, validation = rows(data, "train"), rows(data, "validation")
    assert len(train) + len(validation) + len(rejected(data)) == 4 * 32
    for side in (train, validation):
        require_levels(side, "a side")
        counts = Counter((row.kind, row.label) for row in side)
        assert all(counts[kind, level] == counts[kind, 0] for kind in ("caption", "interleaved") for level in range(4))
    assert not {path for row in train for path in row.images} & {path for row in validation for path in row.images}
    for row in (*train, *validation):
        assert all((data / "out" / "images" / path).is_file() for path in row.images)
        assert "<image>" in row.text
    levels = {row.label: row.text for row in train if row.images == train[0].images and row.kind == "caption"}
    if levels:
        assert len(set(levels.values())) == 4

    again = run(data, vendor, name)
    assert again.exit_code == 0
    assert len(vendor.questions()) == 32


def test_the_teacher_sees_the_images_and_is_asked_for_one_length_at_all_levels(
    data: Path, vendor: VendorServer
) -> None:
    vendor.answer = teacher()
    run(data, vendor, "anthropic")
    texts = read_texts(str(data / "out" / "texts.parquet"))
    stored = {tuple((data / "out" / "images" / path).read_bytes() for path in text.images) for text in texts}
    assert {tuple(images_of(seen.body)) for seen in vendor.questions()} == stored
    assert len({target_words(prompt) for prompt in vendor.prompts()}) > 4
    for seen in vendor.questions():
        assert seen.body["output_config"]["format"]["schema"]["required"] == [f"level_{i}" for i in range(4)]
        assert "level_2: " in prompt_of(seen.body)


def test_documents_keep_their_images_in_order(data: Path, vendor: VendorServer) -> None:
    vendor.answer = teacher()
    run(data, vendor)
    documents = [row for row in (*rows(data, "train"), *rows(data, "validation")) if row.kind == "interleaved"]
    assert Counter(len(row.images) for row in documents) == {1: 16, 2: 16, 3: 16}
    originals = {jpeg(1000 + 10 * i + j, (64, 48)): (i, j) for i in range(12) for j in range(3)}
    for row in documents:
        order = [originals[(data / "out" / "images" / path).read_bytes()] for path in row.images]
        assert order == [(order[0][0], j) for j in range(len(order))]
        assert row.text.count("<image>") == len(row.images)


def test_what_a_teacher_gets_wrong_is_counted_and_the_run_goes_on(data: Path, vendor: VendorServer) -> None:
    asked: Counter[bytes] = Counter()
    first: list[bytes] = []

    def spoil(body: Any, answer: dict[str, Any]) -> Any:
        image = images_of(body)[0]
        asked[image] += 1
        if image not in first:
            first.append(image)
        case = first.index(image)
        if case == 0:
            return {**answer, "level_2": "This hard negative shows one wrong colour in an otherwise fine scene"}
        if case == 1:
            return {name: text for name, text in answer.items() if name != "level_1"}
        if case == 2:
            return {**answer, "level_0": "I'm sorry, but I can't describe unrelated pictures of this kind"}
        if case == 3:
            return {**answer, "level_1": "  "}
        if case == 4:
            return {**answer, "level_2": answer["level_3"]}
        if case == 5:
            return "{not json"
        return answer

    vendor.answer = teacher(spoil)
    vendor.script(Play("refusal", "not this one"))
    result = run(data, vendor, "openai", "--concurrency", "1", documents=False)
    assert result.exit_code == 0, result.output
    lost = Counter((text.status, text.level) for text in rejected(data) if text.status != Verdict.INCOMPLETE_SET)
    expected = {
        Verdict.REFUSED: [0, 0, 1, 2, 3],  # one by the vendor for all levels, one in words
        Verdict.GIVES_AWAY: [2],
        Verdict.WRONG_COUNT: [0, 1, 2, 3],
        Verdict.TOO_SHORT: [1],
        Verdict.DUPLICATE: [2, 3],
        Verdict.FAILED: [0, 1, 2, 3],
    }
    assert lost == Counter((str(verdict), level) for verdict, levels in expected.items() for level in levels)
    assert all(text.reason for text in rejected(data))
    assert "3 texts instead of 4" in next(t.reason for t in rejected(data) if t.status == Verdict.WRONG_COUNT)
    assert len(rows(data, "train")) + len(rows(data, "validation")) == 4 * (20 - 7)
    assert asked[first[1]] == asked[first[5]] == 2  # the judge's one repair
    assert "5 refused" in result.output.replace("\n", " ")

    vendor.answer = teacher()
    asked_before = len(vendor.questions())
    run(data, vendor, "openai", documents=False)
    assert len(vendor.questions()) == asked_before + 1  # only what may come out otherwise
    assert len(rows(data, "train")) + len(rows(data, "validation")) == 4 * (20 - 6)


def test_an_empty_level_stops_before_training(data: Path, vendor: VendorServer) -> None:
    vendor.answer = teacher(lambda body, answer: {**answer, "level_2": "A hard negative of this picture for once"})
    with pytest.raises(VlfilterError, match=r"no caption rows .*level 2 \(hard negative\) \d+ gives_away"):
        run(data, vendor, documents=False)
    assert len(rejected(data)) == 80
    assert not (data / "out" / "train.json").exists()


def test_the_budget_ends_it_and_more_money_goes_on(data: Path, vendor: VendorServer) -> None:
    vendor.answer = teacher()
    price = ("--input-usd-per-million", "1", "--output-usd-per-million", "1000", "--caption-tokens", "1000")
    more = ("--concurrency", "1", *price)
    with pytest.raises(BudgetExceededError, match="raise max_usd and run again"):
        run(data, vendor, "openai", *more, "--max-usd", "1.1", documents=False)
    answered = len(vendor.questions())
    assert 0 < answered < 20
    result = run(data, vendor, "openai", *more, "--max-usd", "100", documents=False)
    assert result.exit_code == 0
    assert len(vendor.questions()) == 20


def test_a_dry_run_tells_the_price_and_asks_nothing(data: Path, vendor: VendorServer) -> None:
    result = run(data, vendor, "anthropic", "--dry-run", "--max-usd", "0.01")
    assert result.exit_code == 0
    assert "32 questions: 0 answered in the cache" in result.output
    assert "more than --max-usd 0.01" in result.output
    assert vendor.seen == []
    assert not (data / "out" / "texts.parquet").exists()


@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_through_the_batch_endpoint(data: Path, vendor: VendorServer, name: str) -> None:
    vendor.answer = teacher()
    result = run(data, vendor, name, "--batch", documents=False)
    assert result.exit_code == 0, result.output
    assert vendor.questions() == []
    assert sum(len(batch["lines"]) for batch in vendor.batches.values()) == 20
    assert len(rows(data, "train")) + len(rows(data, "validation")) == 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "x"], "give images"),
        (["--output", "x", "--images", "y", "--validation", "1.5"], "--validation"),
        (["--output", "x", "--images", "y", "--duplicate", "0.3"], "--duplicate"),
    ],
)
def test_mistakes_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VlfilterError, match=message):
        CliRunner().invoke(app, ["unifilter", "synthesize", *options], catch_exceptions=False)


def test_the_output_is_json_that_anyone_can_read(data: Path, vendor: VendorServer) -> None:
    vendor.answer = teacher()
    run(data, vendor)
    raw = json.loads((data / "out" / "train.json").read_text())
    assert all(set(row) == {"image", "text", "label"} for row in raw)


def test_everything_may_lie_in_an_object_store(vendor: VendorServer, s3: str) -> None:
    for i in range(12):
        write_bytes(f"{s3}/photos/page{i // 4}/{i}.jpg", jpeg(i))
    vendor.answer = teacher()
    given = ["unifilter", "synthesize", "--output", f"{s3}/out", "--images", f"{s3}/photos", "--validation", "0.4"]
    given += ["--teacher", VENDORS["anthropic"], "--base-url", vendor.base_url("anthropic"), "--max-usd", "9"]
    for _ in range(2):
        assert CliRunner().invoke(app, given, catch_exceptions=False).exit_code == 0
    assert len(vendor.questions()) == 12
    train, bad = read_quality_rows(f"{s3}/out/train.json")
    assert bad == []
    assert read_bytes(f"{s3}/out/images/{train[0].images[0]}") in {jpeg(i) for i in range(12)}
