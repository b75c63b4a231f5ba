"""Classification against the original's scripted calls, and what becomes of broken replies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.llm.vendor import Play, VendorServer, prompt_of
from tests.methods.data_engine.fixtures import copied, shared
from vlfilter.data.aokvqa import read_rows
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.methods.data_engine.asking import Sampling
from vlfilter.methods.data_engine.classify import ClassifyPlaces, ClassifySettings, classify, requests_for
from vlfilter.methods.data_engine.classify_reply import NoType, classify_prompt, read_types
from vlfilter.methods.data_engine.question_types import TYPE_KEYS

SETTINGS = ClassifySettings("openai:gpt-4", images="root/imgs")


def _questions(tmp_path: Path, count: int) -> str:
    rows: list[Any] = [
        {"image_id": i, "question": f"What is thing {i}?", "choices": list("abcd"), "correct_choice_idx": i % 4,
         "question_id": f"id{i}"}
        for i in range(count)
    ]  # fmt: skip
    place = tmp_path / "val.json"
    place.write_text(json.dumps(rows))
    return str(place)


def _judge(vendor: VendorServer, tmp_path: Path, attempts: int = 1) -> Judge:
    server = JudgeSettings(
        "openai:gpt-4", vendor.openai_url, str(tmp_path / "cache"), attempts=attempts, backoff_s=0.0, concurrency=1
    )
    return Judge(server)


def _asked(prompt: str) -> list[str]:
    """The things in a prompt, in order."""
    listed = prompt.partition("to be classified:")[2].partition("Here is an example")[0]
    return re.findall(r"thing (\d+)\?", listed)


def _table(output: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(ClassifyPlaces.of(output).table).to_pylist()
    return rows


@pytest.mark.parametrize("case", copied("prestep/parser_cases.json"), ids=lambda case: case["name"])
def test_replies_are_read_as_the_original_does_and_better_where_it_ends(case: dict[str, Any]) -> None:
    found = read_types(case["reply"], case["n_cases"])
    if case["status"] == "ok":
        assert found == [case["types"][f"id{i}"] for i in range(case["n_cases"])]
    recovered = {
        "extra_blank_line": ["attribute_comparison", "attribute_recognition"],
        "intro_line": ["attribute_comparison", "attribute_recognition"],
        "no_parens": ["attribute_comparison", "attribute_recognition"],
        "colon_suffix": ["attribute_comparison", "attribute_recognition"],
        "unknown_type_OCR": [NoType("no type is called '(15) OCR'"), "attribute_recognition"],
        "missing_line": ["attribute_comparison", NoType("no line has its number")],
        "wrong_index": ["attribute_comparison", NoType("no line has its number")],
    }
    if case["status"] != "ok":
        assert found == recovered[case["name"]]


def test_other_lines() -> None:
    assert read_types("**1.** (6) **Image topic**\n2) image_style", 2) == ["image_topic", "image_style"]
    assert read_types("1. (1) Image topic\n1. (1) Image style", 1) == [
        NoType("it has several types: image_style, image_topic")
    ]
    assert read_types("1. Image topics\n", 1) == [NoType("no type is called 'Image topics'")]
    assert read_types("1. (9) Image scene. It is outdoors.", 1) == ["image_scene"]


@given(
    st.text() | st.lists(st.sampled_from(["1", "2", ".", "(", ")", "\n", " ", "Image topic", ":", "*"])).map("".join)
)
@settings(max_examples=300)
def test_any_reply_gives_a_type_or_a_reason(reply: str) -> None:
    found = read_types(reply, 3)
    assert len(found) == 3
    assert all(one.reason if isinstance(one, NoType) else one in TYPE_KEYS for one in found)


def test_the_prompt_is_the_published_one() -> None:
    template = shared("prestep/prompt_template.txt").read_text(encoding="utf-8")
    assert classify_prompt(["One?", "Two?"]) == template.format("1. One?\n2. Two?\n")


def test_calls_and_types_are_the_originals(vendor: VendorServer, tmp_path: Path) -> None:
    fixture = json.loads(shared("prestep/classify_53_questions.json").read_text(encoding="utf-8"))
    questions = tmp_path / "val.json"
    questions.write_text(json.dumps(fixture["input_cases"]))
    vendor.script(*(Play(text=reply) for reply in fixture["scripted_replies"]))
    published = ClassifySettings("openai:gpt-4", "root/imgs", sampling=Sampling(published_extra=True))
    output = str(tmp_path / "classified.json")
    with _judge(vendor, tmp_path) as judge:
        classify(str(questions), output, judge, published)
    assert [seen.body for seen in vendor.questions()] == fixture["api_calls"]
    assert json.loads(Path(ClassifyPlaces.of(output).by_type).read_text()) == fixture["expected_output"]
    flat, bad = read_rows(output)
    assert not bad
    assert [row.question_id for row in flat] == [case["question_id"] for case in fixture["input_cases"]]


def test_broken_lines_are_asked_again_and_told(vendor: VendorServer, tmp_path: Path) -> None:
    def answer(body: Any) -> str:
        things = _asked(prompt_of(body))
        lines = []
        for number, thing in enumerate(things, 1):
            if thing == "7":
                lines.append(f"{number}. (15) OCR")  # never a type
            elif thing == "8" and len(things) > 1:
                lines.append("oops")  # only alone
            elif thing == "9" and len(things) > 10:
                continue  # only in smaller groups
            else:
                lines.append(f"{number}. (9) Image scene")
        return "\n".join(lines)

    vendor.answer = answer
    questions, output = _questions(tmp_path, 60), str(tmp_path / "out" / "classified.json")
    assert len(list(requests_for(questions, SETTINGS))) == 2
    with _judge(vendor, tmp_path) as judge:
        told = classify(questions, output, judge, SETTINGS)
        assert [len(_asked(prompt)) for prompt in vendor.prompts()] == [50, 10, 3, 1, 1]
        assert told["rows"] == {"ok": 59, "unparsable": 1}
        assert told["types"]["image_scene"] == 59
        assert told["asked"] == 5
        rows = _table(output)
        assert [row["question_id"] for row in rows] == [f"id{i}" for i in range(60)]
        assert {row["question_id"]: row["asked"] for row in rows if row["asked"] > 1} == {"id7": 3, "id8": 3, "id9": 2}
        assert rows[7]["status"] == "unparsable"
        assert rows[7]["reason"] == "no type is called '(15) OCR'"
        flat, _ = read_rows(output)
        assert "id7" not in {row.question_id for row in flat}
        assert flat[3].extra["prompt"] == (
            "Question: What is thing 3?\nChoices: (A) a (B) b (C) c (D) d\n"
            "Answer: The answer is (D): d.\nQuestion type: image scene"
        )
        before = {place.name: place.read_bytes() for place in Path(output).parent.iterdir()}
        classify(questions, output, judge, SETTINGS)  # what never parses is final
        assert len(vendor.prompts()) == 5
        Path(output).unlink()
        classify(questions, output, judge, SETTINGS)  # from the cache, and the same bytes
        assert len(vendor.prompts()) == 5
    assert {place.name: place.read_bytes() for place in Path(output).parent.iterdir()} == before


def test_refusals_and_failures(vendor: VendorServer, tmp_path: Path) -> None:
    """A refused prompt is split until the question that it is about stands alone; a failed one is left for later."""
    vendor.answer = lambda body: "\n".join(f"{i}. (9) Image scene" for i, _ in enumerate(_asked(prompt_of(body)), 1))
    questions, output = _questions(tmp_path, 12), str(tmp_path / "classified.json")
    with _judge(vendor, tmp_path) as judge:
        vendor.script(Play("refusal", text="No."), Play(text="1. (1) Image topic"), Play("status", status=500))
        told = classify(questions, output, judge, SETTINGS)
        assert told["rows"] == {"ok": 10, "failed": 2}
        assert "HTTP 500" in _table(output)[11]["reason"]
        told = classify(questions, output, judge, SETTINGS)
        assert told["rows"] == {"ok": 12}
        assert _table(output)[0]["question_type"] == "image_topic"  # paid for once, kept


def test_rows_that_cannot_be_used_are_told(vendor: VendorServer, tmp_path: Path) -> None:
    rows = json.loads(Path(_questions(tmp_path, 3)).read_text())
    rows[1]["choices"] = None
    place = tmp_path / "val.json"
    place.write_text(json.dumps(rows))
    vendor.answer = lambda _: "1. (9) Image scene\n2. (9) Image scene"
    output = str(tmp_path / "classified.json")
    with _judge(vendor, tmp_path) as judge:
        told = classify(str(place), output, judge, SETTINGS)
        assert told["rows"] == {"ok": 2, "bad_row": 1}
        assert told["questions"] == 3
        assert [(row["row"], row["status"]) for row in _table(output)] == [(0, "ok"), (1, "bad_row"), (2, "ok")]
        place.write_text("[]")
        with pytest.raises(VlfilterError, match="no question that can be used"):
            classify(str(place), output, judge, SETTINGS)


def test_a_question_of_several_lines_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "val.json"
    place.write_text(json.dumps([{"question": "What\nis it?", "choices": ["a", "b"], "correct_choice_idx": 0}]))
    assert "\n    1. What is it?\n\n" in next(requests_for(str(place), SETTINGS)).prompt
