"""The judge's scores over a real client and a server on this machine: what is asked, kept, asked again and paid."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.llm.vendor import Play, VendorServer
from vlfilter.data.storage import join
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.llm.cache import cache_key
from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.llm.types import Request
from vlfilter.methods.self_filter.judge_prompt import judge_prompt
from vlfilter.methods.self_filter.judging import JudgeSummary, JudgingSettings, judge_requests, judge_scores
from vlfilter.methods.self_filter.preprocess import preprocess
from vlfilter.methods.self_filter.responses import read_responses

ROWS = 7


def entry(number: int) -> dict[str, Any]:
    asks = "gpt" if number == 5 else "human"  # entry 5 is none
    talk = [{"from": asks, "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": f"It is {number}."}]
    return {"id": "x", "conversations": talk} | ({} if number == 3 else {"image": "a.jpg"})


def text(number: int) -> str:
    return f"USER: What is {number}? ASSISTANT: It is {number}."


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "llava.json").write_text(json.dumps([entry(n) for n in range(ROWS)]))
    preprocess(str(tmp_path / "llava.json"), str(tmp_path / "data"), rows_per_shard=3)
    return str(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, data: str, vendor: VendorServer) -> Callable[..., JudgeSummary]:
    vendor.answer = by_number

    def judged(
        output: str = str(tmp_path / "judge"), judge: dict[str, Any] | None = None, **changes: Any
    ) -> JudgeSummary:
        given: dict[str, Any] = {"cache": str(tmp_path / "cache"), "backoff_s": 0.01, "poll_s": 0.01, "attempts": 2}
        settings = JudgeSettings("openai:gpt-3.5-turbo-1106", base_url=vendor.openai_url, **given | (judge or {}))
        with Judge(settings) as asker:
            return judge_scores(data, output, asker, JudgingSettings(**changes))

    return judged


def by_number(body: Any) -> str:
    number = body["messages"][-1]["content"].partition("What is ")[2][0]
    return f"{number} out of 10\nBecause it"


def read(folder: Path | str) -> list[dict[str, Any]]:
    rows = []
    for name in sorted(os.listdir(folder)):
        with open_parquet(join(str(folder), name)) as file:
            rows += file.read().to_pylist()
    return rows


def test_every_row_gets_the_judge_s_score(run: Callable[..., JudgeSummary], tmp_path: Path) -> None:
    done = run()
    rows = read(tmp_path / "judge")
    assert [(row["id"], row["judge_score"]) for row in rows] == [(n, None if n == 5 else float(n)) for n in range(ROWS)]
    assert rows[3]["status"] == "ok"  # text only: the judge sees no image anyway
    assert rows[2]["answer"] == "2 out of 10\nBecause it"
    assert (rows[5]["status"], rows[5]["answer"]) == ("unsupported", None)
    assert done.rows == {"ok": 6, "unsupported": 1}
    assert (done.asked, done.made, done.kept) == (6, 3, 0)
    assert done.usd > 0


def test_what_is_sent_is_the_published_request(run: Callable[..., JudgeSummary], vendor: VendorServer) -> None:
    run()
    bodies = [seen.body for seen in vendor.questions()]
    assert sorted(body["messages"][0]["content"] for body in bodies) == [
        judge_prompt(text(n)) for n in range(ROWS) if n != 5
    ]
    for body in bodies:
        assert [message["role"] for message in body["messages"]] == ["user"]
        assert (body["model"], body["temperature"], body["seed"]) == ("gpt-3.5-turbo-1106", 0, 42)
        assert body.get("max_tokens", body.get("max_completion_tokens")) == 10


def test_a_question_without_a_seed_keeps_its_key() -> None:
    old = "accbb764590dac78c210bcb623720384ffdb509439da897d11017a67b3eed5dd"
    assert cache_key(Request("Hi"), "openai", "gpt-4o", "") == old
    assert cache_key(Request("Hi", seed=42), "openai", "gpt-4o", "") != old


def test_a_server_without_seeds_is_asked_without(run: Callable[..., JudgeSummary], vendor: VendorServer) -> None:
    vendor.script(Play("status", status=400, error={"message": "Unrecognized request argument supplied: seed"}))
    assert run(judge={"concurrency": 1}).rows["ok"] == 6
    assert ["seed" in seen.body for seen in vendor.questions()] == [True] + [False] * 6


def test_what_is_done_is_not_asked_again(
    run: Callable[..., JudgeSummary], vendor: VendorServer, tmp_path: Path
) -> None:
    run()
    asked = len(vendor.questions())
    again = run(judge={"cache": str(tmp_path / "other cache")})
    assert (len(vendor.questions()), again.kept, again.usd) == (asked, 3, 0)
    (tmp_path / "judge" / "00001.parquet").write_bytes(b"PAR1 torn")
    again = run(judge={"cache": str(tmp_path / "other cache")})
    assert (len(vendor.questions()) - asked, again.made, again.kept) == (2, 1, 2)  # 3 and 4; 5 cannot be asked


def test_another_parser_reads_the_answers_that_are_there(
    run: Callable[..., JudgeSummary], vendor: VendorServer, tmp_path: Path
) -> None:
    run()
    asked = len(vendor.questions())
    done = run(judge={"cache": str(tmp_path / "other cache")}, parser="original")
    assert (len(vendor.questions()), done.asked, done.made) == (asked, 0, 3)
    assert [row["judge_score"] for row in read(tmp_path / "judge")] == [10, 10, 10, 10, 10, None, 10]


def test_other_settings_are_other_questions(run: Callable[..., JudgeSummary], vendor: VendorServer) -> None:
    run()
    asked = len(vendor.questions())
    run(temperature=0.5)
    assert len(vendor.questions()) == 2 * asked


def test_failures_are_rows_and_only_they_are_asked_again(
    run: Callable[..., JudgeSummary], vendor: VendorServer, tmp_path: Path
) -> None:
    bad = Play("status", status=400, error={"message": "too odd"})
    vendor.script(Play("refusal", "I will not."), bad, Play("empty"), Play(text="no idea"))
    done = run(judge={"concurrency": 1})
    rows = read(tmp_path / "judge")
    assert [row["status"] for row in rows] == ["refused", "failed", "failed", "failed", "ok", "unsupported", "ok"]
    assert [row["judge_score"] for row in rows[:4]] == [None] * 4
    assert "I will not." in rows[0]["reason"]
    assert "too odd" in rows[1]["reason"]
    assert rows[2]["reason"] == "no text"
    assert (rows[3]["answer"], rows[3]["reason"]) == ("no idea", "there is no number in 'no idea'")
    assert done.reasons[rows[3]["reason"]] == 1
    asked = len(vendor.questions())
    again = run(judge={"cache": str(tmp_path / "other cache")})
    assert sorted(vendor.prompts()[asked:]) == [judge_prompt(text(1)), judge_prompt(text(2))]
    assert (again.asked, again.rows) == (2, {"ok": 4, "unsupported": 1, "refused": 1, "failed": 1})


def test_a_used_up_budget_ends_the_run_and_a_larger_one_goes_on(
    run: Callable[..., JudgeSummary], vendor: VendorServer, tmp_path: Path
) -> None:
    with pytest.raises(BudgetExceededError):
        run(judge={"max_usd": 0.0012, "concurrency": 1})
    asked = len(vendor.questions())
    assert 0 < asked < 6
    done = run(judge={"max_usd": 1.0})
    assert (done.rows["ok"], len(vendor.questions())) == (6, 6)


def test_a_batch_is_one_job_for_all_shards(
    run: Callable[..., JudgeSummary], vendor: VendorServer, tmp_path: Path
) -> None:
    done = run(judge={"batch": True}, shards_at_once=32)
    assert (done.rows["ok"], len(vendor.batches), len(vendor.questions())) == (6, 1, 0)
    assert [row["judge_score"] for row in read(tmp_path / "judge")][:3] == [0, 1, 2]


def test_the_dry_run_counts_what_would_be_asked(
    run: Callable[..., JudgeSummary], data: str, vendor: VendorServer, tmp_path: Path
) -> None:
    output = str(tmp_path / "judge")
    with Judge(JudgeSettings("openai:gpt-3.5-turbo-1106")) as judge:
        estimate = judge.estimate(judge_requests(data, output, JudgingSettings()))
        assert (estimate.to_send, estimate.max_output_tokens) == (6, 60)
        assert estimate.usd_most is not None
        assert estimate.usd_most > 0
    assert not vendor.questions()
    run()
    assert list(judge_requests(data, output, JudgingSettings())) == []


def test_on_s3(run: Callable[..., JudgeSummary], s3: str, vendor: VendorServer) -> None:
    assert run(output=join(s3, "judge"), judge={"cache": join(s3, "cache")}).made == 3
    assert run(output=join(s3, "judge"), judge={"cache": join(s3, "cache")}).kept == 3
    assert len(vendor.questions()) == 6


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(VlfilterError, match="strict, original"):
        JudgingSettings(parser="lenient")  # type: ignore[arg-type]
    with pytest.raises(VlfilterError, match="at least 1"):
        JudgingSettings(max_tokens=0)


def response(content: str | None) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


def test_responses_of_the_published_script_are_read(data: str, tmp_path: Path) -> None:
    folder = tmp_path / "responses"
    folder.mkdir()
    for number, content in enumerate(["8/10", "9\nfoo", None, "8 out of 10"]):
        (folder / f"{number}.json").write_text(response(content))
    (folder / "4.json").write_text(response("7")[:20])
    (folder / "6.json").write_text(json.dumps({"choices": [{"text": " 6"}]}))
    (folder / "notes.txt").write_text("not one")
    output = str(tmp_path / "judge")
    done = read_responses(data, str(folder), output)
    rows = read(output)
    assert [row["judge_score"] for row in rows] == [8, 9, None, 10, None, None, 6]
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok", "failed", "unsupported", "ok"]
    assert "4.json is no response" in rows[4]["reason"]
    assert (done.made, done.usd) == (3, 0)
    assert read_responses(data, str(folder), output).kept == 3
    (folder / "4.json").write_text(response("7"))
    assert read_responses(data, str(folder), output).made == 1
    assert read(output)[4]["judge_score"] == 7
    assert read_responses(data, str(folder), output, "strict").made == 3
    assert read(output)[3]["judge_score"] == 8


def test_a_folder_without_responses_is_told(data: str, tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="holds no responses"):
        read_responses(data, str(tmp_path / "none"), str(tmp_path / "judge"))
