"""Generation against the original's scenarios, and where that ends: budget, kills, changed queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.llm.vendor import Play, VendorServer
from tests.methods.data_engine.fixtures import copied
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.methods.data_engine.asking import Sampling
from vlfilter.methods.data_engine.generate import GenerateSettings, generate, requests_for
from vlfilter.methods.data_engine.generated import table_beside

FIXTURE = copied("step3/generate_qa_scenarios.json")
QUERIES, SCENARIOS = FIXTURE["queries"], FIXTURE["scenarios"]
PUBLISHED = GenerateSettings("openai:gpt-4", Sampling(published_extra=True))
SETTINGS = GenerateSettings("openai:gpt-4")


def _judge(vendor: VendorServer, tmp_path: Path, cache: str = "cache", **limits: Any) -> Judge:
    wanted = {"attempts": 3, "backoff_s": 0.0, "concurrency": 1} | limits
    return Judge(JudgeSettings("openai:gpt-4", vendor.openai_url, str(tmp_path / cache), **wanted))


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    place = tmp_path / "gptvqa_prompt.json"
    place.write_text(json.dumps(QUERIES))
    return str(place)


def _lines(output: Path) -> list[str]:
    return output.read_text().splitlines()


def _table(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(table_beside(str(output))).to_pylist()
    return rows


def _counting(vendor: VendorServer) -> None:
    vendor.answer = lambda _: f" reply {len(vendor.questions())}\n"


@pytest.mark.parametrize("name", ["fresh", "resume_after_2", "resume_complete"])
def test_calls_and_lines_are_the_originals(vendor: VendorServer, tmp_path: Path, prompts: str, name: str) -> None:
    scenario = SCENARIOS[name]
    old = [line for line in scenario["output_lines"] if '"old"' in line]
    output = tmp_path / "gptvqa_result.jsonl"
    if old:
        output.write_text("\n".join(old) + "\n")
    _counting(vendor)
    with _judge(vendor, tmp_path) as judge:
        generate(prompts, str(output), judge, PUBLISHED)
    assert [seen.body for seen in vendor.questions()] == scenario["calls"]
    assert _lines(output) == scenario["output_lines"]


def test_errors_are_tried_again_with_the_same_call(vendor: VendorServer, tmp_path: Path, prompts: str) -> None:
    failing = Play("status", status=500)
    vendor.script(failing, failing, Play(text="answer A"), failing, failing, Play(text="answer B"))
    vendor.answer = lambda _: f"reply {len(vendor.questions())}"
    output = tmp_path / "gptvqa_result.jsonl"
    with _judge(vendor, tmp_path) as judge:
        told = generate(prompts, str(output), judge, PUBLISHED)
    assert [seen.body for seen in vendor.questions()] == SCENARIOS["retry"]["calls"]
    assert _lines(output) == SCENARIOS["retry"]["output_lines"]
    assert told["rows"] == {"ok": 4}


def test_where_the_original_ends(
    vendor: VendorServer, tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _counting(vendor)
    output = tmp_path / "gptvqa_result.jsonl"
    with _judge(vendor, tmp_path) as judge:
        before = "\n".join(SCENARIOS["resume_mismatch"]["output_lines"]) + "\n"
        output.write_text(before)
        with pytest.raises(VlfilterError, match=r"line 1 of .* is about image 11, the query about image 10"):
            generate(prompts, str(output), judge, SETTINGS)
        assert output.read_text() == before
        assert not vendor.questions()

        output.write_text("\n".join(SCENARIOS["resume_truncated_line"]["output_lines"]))
        generate(prompts, str(output), judge, SETTINGS)
        assert [json.loads(line)["raw_instructions"] for line in _lines(output)] == [
            "x",
            "reply 1",
            "reply 2",
            "reply 3",
        ]

        output.write_text("")
        Path(table_beside(str(output))).unlink()
        generate(prompts, str(output), judge, SETTINGS)
        assert len(_lines(output)) == 4
        assert len(vendor.questions()) == 4  # three answers were in the cache

        monkeypatch.chdir(tmp_path)
        generate(prompts, "bare.jsonl", judge, SETTINGS)
        assert _lines(tmp_path / "bare.jsonl") == _lines(output)


def test_an_existing_file_that_does_not_fit(vendor: VendorServer, tmp_path: Path, prompts: str) -> None:
    output = tmp_path / "gptvqa_result.jsonl"
    row = {"image_id": 10, "raw_instructions": "x", "question_type": "y"}
    with _judge(vendor, tmp_path) as judge:
        output.write_text(json.dumps(row) + "\n[]\n" + json.dumps(row) + "\n")
        with pytest.raises(VlfilterError, match=r"line 2 of .* is no reply"):
            generate(prompts, str(output), judge, SETTINGS)
        output.write_text((json.dumps(row) + "\n") * 5)
        with pytest.raises(VlfilterError, match="has 5 lines, but there are 4 queries"):
            generate(prompts, str(output), judge, SETTINGS)


def test_every_query_is_told(vendor: VendorServer, tmp_path: Path, prompts: str) -> None:
    queries = [*QUERIES, "no query", {"image_id": 1, "question_type": "image_scene"}, {"prompt": "p", "image_id": 2}]
    Path(prompts).write_text(json.dumps(queries))
    vendor.script(Play(text="fine"), Play("refusal", text="No."), Play("cut", text="Question: half a"), Play("empty"))
    output = tmp_path / "gptvqa_result.jsonl"
    with _judge(vendor, tmp_path) as judge:
        assert len(requests_for(prompts, str(output), SETTINGS)) == 4
        told = generate(prompts, str(output), judge, SETTINGS)
        assert told["rows"] == {"ok": 2, "refused": 1, "empty": 1, "bad_query": 3}
        assert told["truncated"] == 1
        assert told["without_reply_by_type"] == {"": 2, "image_scene": 3}
        lines = [json.loads(line) for line in _lines(output)]
        assert lines == [
            {"image_id": 10, "raw_instructions": "fine", "question_type": "image_scene"},
            {"image_id": 12, "raw_instructions": "Question: half a", "question_type": "image_scene", "truncated": True},
        ]
        rows = _table(output)
        assert [row["status"] for row in rows] == ["ok", "refused", "ok", "empty", *["bad_query"] * 3]
        assert [row["reason"] for row in rows[4:]] == [
            "the query is not an object", "it has no prompt", "it has no question_type",
        ]  # fmt: skip
        assert rows[2]["reason"] == "cut off at max_tokens=800"
        assert rows[0]["output_tokens"] == 10

        vendor.answer = lambda _: "late"
        told = generate(prompts, str(output), judge, SETTINGS)  # only the empty one is asked again
        assert vendor.prompts()[4:] == ["PROMPT 3"]
        assert told["rows"] == {"ok": 3, "refused": 1, "bad_query": 3}
        assert told["asked"] == 1
        generate(prompts, str(output), judge, SETTINGS)
        assert len(vendor.prompts()) == 5


def test_the_budget_keeps_what_was_answered(vendor: VendorServer, tmp_path: Path, prompts: str) -> None:
    _counting(vendor)
    output = tmp_path / "gptvqa_result.jsonl"
    with _judge(vendor, tmp_path, max_usd=0.058) as judge, pytest.raises(BudgetExceededError):
        generate(prompts, str(output), judge, SETTINGS)
    answered = len(vendor.questions())
    assert 0 < answered < 4
    assert len(_lines(output)) == answered
    assert [row["status"] for row in _table(output)] == ["ok"] * answered + ["pending"] * (4 - answered)
    with _judge(vendor, tmp_path, max_usd=5.0) as judge:
        told = generate(prompts, str(output), judge, SETTINGS)
        spent = sum(line.usd for line in judge.spending())
    assert told["rows"] == {"ok": 4}
    assert len(vendor.questions()) == 4  # none is paid for twice
    assert spent == pytest.approx(4 * (100 * 30 + 10 * 60) / 1e6)
    assert [line["raw_instructions"] for line in map(json.loads, _lines(output))] == [
        f"reply {i}" for i in (1, 2, 3, 4)
    ]


def test_a_changed_query_is_asked_and_the_others_are_not(vendor: VendorServer, tmp_path: Path, prompts: str) -> None:
    output = tmp_path / "gptvqa_result.jsonl"
    with _judge(vendor, tmp_path) as judge:
        generate(prompts, str(output), judge, SETTINGS)
    changed = [QUERIES[2], QUERIES[0] | {"prompt": "NEW"}, QUERIES[1]]
    Path(prompts).write_text(json.dumps(changed))
    with _judge(vendor, tmp_path, cache="other") as judge:  # the table knows, not the cache
        generate(prompts, str(output), judge, SETTINGS)
        assert vendor.prompts()[4:] == ["NEW"]
        assert [json.loads(line)["image_id"] for line in _lines(output)] == [12, 10, 11]
        generate(prompts, str(output), judge, GenerateSettings("openai:gpt-4", Sampling(temperature=0.0)))
        assert len(vendor.prompts()) == 8  # other sampling, other replies


def test_same_answers_give_the_same_bytes(vendor: VendorServer, tmp_path: Path, prompts: str) -> None:
    vendor.answer = lambda body: f"reply to {body['messages'][0]['content']} \ud83d\ude00 é"
    made = []
    for name, at_once in (("one", 1), ("two", 4)):
        output = tmp_path / name / "gptvqa_result.jsonl"
        with _judge(vendor, tmp_path, concurrency=at_once) as judge:
            generate(prompts, str(output), judge, SETTINGS)
        made.append({place.name: place.read_bytes() for place in output.parent.iterdir()})
    assert made[0] == made[1]
    assert len(vendor.questions()) == 4
