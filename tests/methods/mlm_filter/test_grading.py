"""The teacher is the real client against a local server that speaks the vendors' APIs."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import encode, jpeg, picture, png
from tests.llm.vendor import Play, VendorServer, prompt_of
from vlfilter.data.image_files import MAX_SIDE, for_teacher
from vlfilter.data.images import decode_image
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.llm.types import Answer, Outcome
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus, read_grades
from vlfilter.methods.mlm_filter.grading import GradeSettings, grade_pairs, requests_for
from vlfilter.methods.mlm_filter.pairs import ChosenPair, write_pairs
from vlfilter.methods.mlm_filter.questions import read_grade
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction, question_part

ROOT = Path(__file__).parents[3]
PAIRS = [ChosenPair(f"p{i}", f"quality/p{i}.jpg", f"a picture number {i}", key=f"k{i}") for i in range(6)]
SETTINGS = GradeSettings(teacher="openai:gpt-4o")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Six pairs with their images."""
    (tmp_path / "images" / "quality").mkdir(parents=True)
    for i, pair in enumerate(PAIRS):
        (tmp_path / "images" / pair.image).write_bytes(jpeg(i))
    write_pairs(str(tmp_path / "pairs.json"), PAIRS)
    return tmp_path


@pytest.fixture
def judge_settings(vendor: VendorServer, work: Path) -> JudgeSettings:
    vendor.answer = score_by_number
    return JudgeSettings(
        "openai:gpt-4o", vendor.openai_url, cache=str(work / "answers"), attempts=2, backoff_s=0.01, concurrency=4
    )


def score_by_number(body: Any) -> str:
    """10 for picture 1, 20 for picture 2, …"""
    number = re.search(r"number (\d)", prompt_of(body))
    assert number
    return f"{10 * int(number[1])}\nIt is number {number[1]}."


def grade(work: Path, judge: JudgeSettings, settings: GradeSettings = SETTINGS) -> dict[str, Any]:
    with Judge(judge) as teacher:
        return grade_pairs(
            str(work / "pairs.json"), str(work / "images"), str(work / "grades.parquet"), teacher, settings
        )


def rows(work: Path) -> list[Grade]:
    return read_grades(str(work / "grades.parquet"))


def test_every_pair_is_graded_on_every_metric(work: Path, vendor: VendorServer, judge_settings: JudgeSettings) -> None:
    summary = grade(work, judge_settings)
    assert summary["rows"] == {"ok": 24}
    assert summary["usd"] > 0
    found = rows(work)
    assert [(g.id, g.metric) for g in found] == [(p.id, metric) for p in PAIRS for metric in METRICS]
    assert [g.score for g in found] == [10 * i for i in range(6) for _ in METRICS]
    assert found[-1].answer == "50\nIt is number 5."
    asked = {prompt_of(seen.body) for seen in vendor.questions()}
    assert asked == {instruction(metric, pair.caption, 2) for pair in PAIRS for metric in METRICS}

    grade(work, judge_settings)
    assert len(vendor.questions()) == 24


def test_the_image_comes_first_as_it_lies_in_the_folder(
    work: Path, vendor: VendorServer, judge_settings: JudgeSettings
) -> None:
    grade(work, judge_settings, replace(SETTINGS, metrics=METRICS[:1], version=1))
    for seen in vendor.questions():
        image, text = seen.body["messages"][-1]["content"]
        number = int(re.search(r"number (\d)", text["text"])[1])  # type: ignore[index]
        assert text["text"] == instruction(METRICS[0], f"a picture number {number}", 1)
        assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) == jpeg(number)


def test_a_teacher_without_eyes_gets_a_description(
    work: Path, vendor: VendorServer, judge_settings: JudgeSettings
) -> None:
    (work / "words.json").write_text(json.dumps({"p0": "A red square.", "k1": "A blue one."}))
    settings = replace(SETTINGS, view="caption", descriptions=str(work / "words.json"), metrics=METRICS[:2])
    summary = grade(work, judge_settings, settings)
    assert summary["rows"] == {"ok": 4, "missing_description": 8}
    asked = vendor.prompts()
    part = question_part(METRICS[0], 2)
    assert f"Image: A red square.\n\nCaption: a picture number 0\n\n{part}" in asked
    assert f"Image: A blue one.\n\nCaption: a picture number 1\n\n{part}" in asked
    assert all("image_url" not in json.dumps(seen.body) for seen in vendor.questions())
    assert all(g.reason for g in rows(work) if g.status != "ok")


def test_nothing_is_lost_and_what_may_still_come_is_asked_again(
    work: Path, vendor: VendorServer, judge_settings: JudgeSettings
) -> None:
    rejected = Play("status", status=400, error={"message": "no such image", "type": "invalid_request_error"})
    blind, high = Play(text="I cannot see it."), Play(text="140\nOh.")
    vendor.script(Play("refusal", text="I will not."), Play("empty"), rejected, blind, high)
    (work / "images" / PAIRS[5].image).unlink()
    (work / "images" / PAIRS[4].image).write_bytes(b"broken")
    judge_settings = replace(judge_settings, concurrency=1)
    summary = grade(work, judge_settings)
    assert summary["rows"] == {
        "ok": 11, "unparsable": 2, "refused": 1, "empty": 1, "failed": 1, "missing_image": 8,
    }  # fmt: skip
    found = Counter(g.status for g in rows(work))
    assert sum(found.values()) == len(PAIRS) * 4
    reasons = {g.status: g.reason for g in rows(work)}
    assert all((g.score is None) == (g.status != "ok") and (g.reason != "") == (g.status != "ok") for g in rows(work))
    assert "no such image" in reasons["failed"]
    assert "no number from 0 to 100: '140" in reasons["unparsable"]

    (work / "images" / PAIRS[5].image).write_bytes(jpeg(5))
    before = len(vendor.questions())
    assert grade(work, judge_settings)["rows"] == {"ok": 17, "unparsable": 2, "refused": 1, "missing_image": 4}
    assert len(vendor.questions()) == before + 2 + 4  # the empty and the failed one, and the picture that came back


def test_another_prompt_or_teacher_is_another_question(
    work: Path, vendor: VendorServer, judge_settings: JudgeSettings
) -> None:
    settings = replace(SETTINGS, metrics=METRICS[:1])
    grade(work, judge_settings, settings)
    grade(work, judge_settings, replace(settings, version=1))
    assert len(vendor.questions()) == 12
    assert {g.version for g in rows(work)} == {1}
    vendor.answer = lambda body: "7"
    grade(work, replace(judge_settings, model="openai:gpt-4.1"), replace(settings, teacher="openai:gpt-4.1"))
    assert {g.score for g in rows(work)} == {7}


def test_a_budget_that_is_used_up_keeps_what_was_paid_for(
    work: Path, vendor: VendorServer, judge_settings: JudgeSettings
) -> None:
    settings = replace(SETTINGS, at_once=2, max_tokens=100)
    poor = replace(judge_settings, max_usd=0.012, concurrency=1)
    with pytest.raises(BudgetExceededError, match="Finished answers are cached"):
        grade(work, poor, settings)
    paid = len(vendor.questions())
    assert 0 < paid < 24
    assert not (work / "grades.parquet").exists()
    assert grade(work, replace(poor, max_usd=1.0), settings)["rows"] == {"ok": 24}
    assert len(vendor.questions()) == 24


GRADE = """
import sys
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.methods.mlm_filter.grading import GradeSettings, grade_pairs
work, url = sys.argv[1:]
settings = JudgeSettings("openai:gpt-4o", url, cache=work + "/answers", concurrency=1)
with Judge(settings) as judge:
    places = [work + "/pairs.json", work + "/images", work + "/grades.parquet"]
    grade_pairs(*places, judge, GradeSettings(teacher="openai:gpt-4o"))
"""


def test_a_killed_run_pays_for_nothing_twice(work: Path, vendor: VendorServer, judge_settings: JudgeSettings) -> None:
    vendor.script(*[Play(text="7")] * 5, Play("never"))
    process = subprocess.Popen([sys.executable, "-c", GRADE, str(work), vendor.openai_url], cwd=ROOT)
    while len(vendor.questions()) < 6:
        assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    assert grade(work, judge_settings)["rows"] == {"ok": 24}
    assert [g.score for g in rows(work)[:6]] == [7, 7, 7, 7, 7, 10]
    assert len(vendor.questions()) == 25  # the one that was under way is asked again


def test_a_wrong_key_is_one_clear_error(work: Path, vendor: VendorServer, judge_settings: JudgeSettings) -> None:
    vendor.script(*[Play("status", status=401, error={"message": "bad key", "type": "authentication_error"})] * 30)
    with pytest.raises(VlfilterError, match="OPENAI_API_KEY"):
        grade(work, judge_settings)


def test_the_dry_run_counts_and_sends_nothing(work: Path, vendor: VendorServer, judge_settings: JudgeSettings) -> None:
    places = str(work / "pairs.json"), str(work / "images"), str(work / "grades.parquet")
    with Judge(judge_settings) as judge:
        first = judge.estimate(requests_for(*places, SETTINGS))
        assert (first.requests, first.to_send) == (24, 24)
        assert first.usd_most is not None
        assert first.usd_most > 0
        assert vendor.seen == []
        grade(work, judge_settings)
        assert judge.estimate(requests_for(*places, SETTINGS)).requests == 0  # graded: there is nothing to ask
        other = judge.estimate(requests_for(*places, replace(SETTINGS, version=1)))
        assert (other.to_send, other.cached) == (24, 0)


def test_it_speaks_to_anthropic_too(work: Path, vendor: VendorServer, judge_settings: JudgeSettings) -> None:
    claude = replace(judge_settings, model="anthropic:claude-sonnet-4-5", base_url=vendor.anthropic_url)
    assert grade(work, claude, replace(SETTINGS, teacher="anthropic:claude"))["rows"] == {"ok": 24}


@pytest.mark.parametrize(
    ("text", "score"),
    [("85", 85), ("100\nAll.", 100), ("Score: 0\nNothing.", 0), ("101", None), ("It scores 85", None), ("-3", None)],
)
def test_answers_are_read_strictly(text: str, score: int | None) -> None:
    found = read_grade(PAIRS[0], METRICS[0], 2, Answer(Outcome.ANSWERED, text))
    assert found.score == score
    assert found.status == (GradeStatus.OK if score is not None else GradeStatus.UNPARSABLE)


def test_images_that_no_vendor_takes_are_made_anew() -> None:
    assert for_teacher(jpeg(1)) == (jpeg(1), "image/jpeg")
    assert for_teacher(png(1)) == (png(1), "image/png")
    data, media_type = for_teacher(encode(picture(1, (3000, 1000)), "BMP"))
    assert media_type == "image/jpeg"
    assert decode_image(data).size == (MAX_SIDE, round(MAX_SIDE / 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "is not a JSON object"), ("{", "cannot be read"), ('{"a": 1}', "is not a JSON object")],
)
def test_descriptions_that_cannot_be_used(work: Path, judge_settings: JudgeSettings, text: str, message: str) -> None:
    (work / "words.json").write_text(text)
    with pytest.raises(VlfilterError, match=message):
        grade(work, judge_settings, replace(SETTINGS, view="caption", descriptions=str(work / "words.json")))
    with pytest.raises(VlfilterError, match="needs a description of every image"):
        grade(work, judge_settings, replace(SETTINGS, view="caption"))


def test_grading_needs_a_list_of_pairs(tmp_path: Path, judge_settings: JudgeSettings) -> None:
    with pytest.raises(VlfilterError, match=r"there is no list of pairs .*nowhere/pairs.json"):
        grade(tmp_path / "nowhere", judge_settings)


def test_the_batch_endpoint_gives_the_same_rows(
    work: Path, vendor: VendorServer, judge_settings: JudgeSettings
) -> None:
    summary = grade(work, replace(judge_settings, batch=True, poll_s=0.01), replace(SETTINGS, at_once=100))
    assert summary["rows"] == {"ok": 24}
    assert vendor.questions() == []
    assert len(vendor.batches) == 1
    assert [g.score for g in rows(work)] == [10 * i for i in range(6) for _ in METRICS]
