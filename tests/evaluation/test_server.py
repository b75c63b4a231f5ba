"""A model behind an API like OpenAI's: the real SDK, over HTTP, through the judge's client."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.evaluation.published_files import fixture, published
from tests.helpers import jpeg
from tests.llm.vendor import Play, VendorServer, prompt_of
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarking import evaluate_benchmarks
from vlfilter.evaluation.params import EvaluateParams, parse_params
from vlfilter.llm.client import BudgetExceededError


def scripted(body: Any) -> str:
    """The fixture's answers, by a part of the prompt."""
    told = fixture("okvqa")["scripted_answers"] | fixture("vsr")["scripted_answers"]
    return next(text for part, text in told.items() if part in prompt_of(body))


@pytest.fixture
def fields(tmp_path: Path, vendor: VendorServer) -> dict[str, Any]:
    vendor.answer = scripted
    images = tmp_path / "images"
    images.mkdir()
    for number in (42, 73):
        (images / f"COCO_val2014_{number:012d}.jpg").write_bytes(jpeg(number))
    for number in range(3):
        (images / f"{number}.jpg").write_bytes(jpeg(number))
    steps = [
        {"benchmark": name, "data": published(name, tmp_path / name), "images": str(images)}
        for name in ("okvqa", "vsr")
    ]
    server = {"base_url": vendor.openai_url, "concurrency": 2, "input_usd_per_million": 1, "output_usd_per_million": 1}
    model = {"model": "openai:org/minigpt", "server": server}
    return {"output": str(tmp_path / "out"), "benchmarks": steps, "shard": 2, **model}


def parsed(fields: dict[str, Any], **changes: Any) -> EvaluateParams:
    return parse_params(fields | changes, "test")


def test_a_server_answers_with_the_image_before_it(fields: dict[str, Any], vendor: VendorServer) -> None:
    okvqa, vsr = evaluate_benchmarks(parsed(fields))
    assert (okvqa["scores"][0]["fixed"], okvqa["scores"][0]["compat"]) == (66.67, 33.33)
    assert vsr["rows"] == {"ok": 3, "missing_image": 1}
    assert okvqa["model"] == "minigpt"
    assert okvqa["answerer"]["model"] == f"openai:org/minigpt at {vendor.openai_url}"
    sports = next(seen.body for seen in vendor.questions() if "What sport" in prompt_of(seen.body))
    image, text = sports["messages"][-1]["content"]
    assert image["image_url"]["url"] == f"data:image/jpeg;base64,{base64.b64encode(jpeg(42)).decode()}"
    assert (
        text["text"]
        == "[vqa] Based on the image, respond to this question with a short answer: What sport can you use this for?"
    )
    assert {name: sports[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "org/minigpt", "max_tokens": 20, "temperature": 0.0
    }  # fmt: skip
    table = pq.read_table(Path(fields["output"]) / "okvqa" / "answers" / "shard-00000.parquet").to_pylist()
    assert [(row["key"], row["input_tokens"], row["output_tokens"]) for row in table] == [
        ("1", 100, 10),
        ("2", 100, 10),
    ]


def test_what_was_answered_is_not_paid_twice(fields: dict[str, Any], vendor: VendorServer) -> None:
    first = evaluate_benchmarks(parsed(fields))
    asked = len(vendor.questions())
    assert asked == 6
    assert evaluate_benchmarks(parsed(fields)) == first
    for table in Path(fields["output"]).rglob("shard-*.parquet"):
        table.unlink()
    assert evaluate_benchmarks(parsed(fields)) == first  # from the client's cache
    assert len(vendor.questions()) == asked
    evaluate_benchmarks(parsed(fields, plain_prompts=True))
    assert len(vendor.questions()) == 2 * asked


def test_ways_of_having_no_answer(fields: dict[str, Any], vendor: VendorServer) -> None:
    vendor.script(
        Play("refusal", "I cannot look at this."),
        Play("empty"),
        Play("status", status=400, error={"message": "too long"}),
    )
    step = fields["benchmarks"][0]
    server = fields["server"] | {"concurrency": 1}
    (told,) = evaluate_benchmarks(parsed(fields, benchmarks=[step], server=server, shard=10))
    rows = pq.read_table(Path(fields["output"]) / "okvqa" / "questions.parquet").to_pylist()
    assert [(row["status"], row["answer"]) for row in rows] == [("refused", None), ("ok", ""), ("failed", None)]
    assert rows[0]["reason"] == "I cannot look at this."
    assert "too long" in rows[2]["reason"]
    assert told["scores"][0]["answered"] == 1
    again = evaluate_benchmarks(parsed(fields, benchmarks=[step], server=server, shard=10))
    assert again[0]["rows"] == {"refused": 1, "ok": 2}  # what failed is asked again


def test_a_budget_stops_and_keeps_what_was_paid(fields: dict[str, Any], vendor: VendorServer) -> None:
    server = fields["server"] | {"max_usd": 0.0000001}
    with pytest.raises(BudgetExceededError):
        evaluate_benchmarks(parsed(fields, server=server))
    assert evaluate_benchmarks(parsed(fields))[0]["scores"][0]["fixed"] == 66.67


def test_a_wrong_key_is_one_message(fields: dict[str, Any], vendor: VendorServer) -> None:
    vendor.script(*[Play("status", status=401)] * 8)
    with pytest.raises(VlfilterError, match="does not accept the key"):
        evaluate_benchmarks(parsed(fields))


def test_a_broken_image_is_not_sent(fields: dict[str, Any], vendor: VendorServer, tmp_path: Path) -> None:
    (tmp_path / "images" / "1.jpg").write_bytes(b"no image")
    (told,) = evaluate_benchmarks(parsed(fields, benchmarks=fields["benchmarks"][1:]))
    assert told["rows"] == {"ok": 2, "corrupt_image": 1, "missing_image": 1}
    assert len(vendor.questions()) == 2
    line = json.loads((tmp_path / "out" / "vsr" / "vsr.json").read_text())
    assert [entry["pred"] for entry in line] == ["True", "", "true.", ""]
