"""Every verdict from real answers of a server over HTTP, and what is kept by them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.llm.vendor import Play, VendorServer
from vlfilter.data.aokvqa import VqaRow, parse_row
from vlfilter.data.samples import SampleError
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.methods.data_engine.verdicts import VerifyRules
from vlfilter.methods.data_engine.verify import VerifySettings, requests_for, verify
from vlfilter.methods.data_engine.verify_images import load
from vlfilter.methods.data_engine.verify_questions import ask_without_image, order_of
from vlfilter.methods.data_engine.verify_rules import duplicates, leaked

PLAIN = ("What is on the round wooden table near the window?", ["apple", "lamp", "book", "cup"], 1)


def _row(image_id: int, question: str, choices: list[str], correct: int) -> dict[str, Any]:
    return {
        "image_id": image_id, "raw_instructions": "…", "question_type": "image_scene", "question": question,
        "choices": choices, "correct_choice_idx": correct, "rationales": ["Explanation: it shows."],
    }  # fmt: skip


ROWS = [
    _row(0, *PLAIN),
    _row(1, "Which animal sleeps behind the old red barn door?", ["cat", "dog", "cow", "hen"], 0),  # judge: dog
    _row(2, "Which sign hangs over the narrow street entrance?", ["stop", "exit", "bar", "hotel"], 2),  # judge: unknown
    _row(3, "What is the capital of France called in English?", ["Paris", "Rome", "Oslo", "Bonn"], 0),  # without eyes
    _row(4, *PLAIN),  # as the first
    _row(
        5, "What does the yellow umbrella on the beach protect from?", ["rain", "sun", "wind", "snow"], 1
    ),  # evaluation
    _row(6, "How does the surfboard rider in blue look today?", ["sad", "glad", "angry", "tired"], 1),  # its image too
    _row(7, "Which of the boats is the green sailing boat there?", ["green sailing boat", "tug", "raft", "ferry"], 0),
    _row(99, "What is drawn upon the tall grey chimney outside?", ["star", "moon", "sun", "face"], 0),  # no image
    {"image_id": 3, "question": "Broken?", "choices": ["a"], "correct_choice_idx": 4},
    _row(8, "What kind of weather does the evening sky promise?", ["rain", "sun", "wind", "snow"], 0),  # a copy
]
EVALUATION = [
    _row(700, "What does the yellow umbrella on the beach protect from?", ["sun", "rain", "snow", "wind"], 0),
    _row(6, "Where is the surfboard?", ["left", "right", "top", "none"], 0),
    _row(701, "Who is there?", ["Ann", "Bob", "Eve", "Tom"], 0),
]
SEES = {"sleeps": "dog", "hangs": "unknown", "capital": "Paris", "umbrella": "sun", "rider": "glad", "boats":
        "green sailing boat", "weather": "rain", "table": "lamp"}  # fmt: skip


def _text(body: Any) -> tuple[str, bool]:
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content, False
    return next(part["text"] for part in content if part["type"] == "text"), any(
        part["type"] == "image_url" for part in content
    )


def _letter(prompt: str, choice: str) -> str:
    listed = re.findall(r"\(([A-Z])\) (.*?)(?= \([A-Z]\)|$)", _choices_line(prompt))
    return next((letter for letter, text in listed if text == choice), "unknown")


def _choices_line(prompt: str) -> str:
    return next(line for line in prompt.splitlines() if line.startswith("Choices: "))


def _answer(body: Any) -> str:
    prompt, sees = _text(body)
    if sees:
        choice = next((choice for word, choice in SEES.items() if word in prompt), "unknown")
    else:
        choice = "Paris" if "capital" in prompt else "apple" if "table" in prompt else "unknown"
    return json.dumps({"answer": _letter(prompt, choice)})


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(3)
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    pictures = {i: rng.integers(0, 255, (6, 8, 3), np.uint8) for i in [*range(9), 700, 701]}
    pictures[701] = pictures[8]
    for number, pixels in pictures.items():
        folder = "val" if number >= 700 else "train"
        size = (64, 48) if folder == "train" else (96, 72)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(
            tmp_path / folder / f"{number:012d}.jpg", quality=95
        )
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "val.json").write_text(json.dumps(EVALUATION))
    return {name: tmp_path / name for name in ("rows.json", "val.json", "train", "val", "out")}


def _settings(places: dict[str, Path], **changes: Any) -> VerifySettings:
    base = VerifySettings(
        str(places["train"]),
        "openai:eyes",
        "openai:words",
        str(places["val.json"]),
        str(places["val"]),
        seed=7,
        labels={"round": "2"},
    )
    return replace(base, **changes)


def _judge(vendor: VendorServer, places: dict[str, Path]) -> Judge:
    cache = str(places["out"].parent / "cache")
    return Judge(JudgeSettings("openai:eyes", vendor.openai_url, cache, attempts=1, concurrency=4, backoff_s=0.0))


def _verify(
    judge: Judge | None, places: dict[str, Path], wanted: VerifySettings
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    output, table = places["out"] / "gptvqa_train_data.json", places["out"] / "verdicts.parquet"
    told = verify(str(places["rows.json"]), str(output), str(table), wanted, judge, judge)
    return told, json.loads(output.read_text()), pq.read_table(table).to_pylist()


def test_every_verdict_is_a_column(vendor: VendorServer, places: dict[str, Path]) -> None:
    vendor.answer = _answer
    with _judge(vendor, places) as judge:
        told, kept, rows = _verify(judge, places, _settings(places))
        assert [row["row"] for row in rows] == list(range(len(ROWS)))
        assert [row["status"] for row in rows] == [
            "ok", "image_disagrees", "image_unsure", "text_answered", "duplicate", "overlap", "overlap", "leak",
            "no_image", "bad_row", "overlap",
        ]  # fmt: skip
        assert kept == [ROWS[0]]
        assert [row["kept"] for row in rows] == [True] + [False] * 10
        assert all(row["reason"] for row in rows[1:])
        assert rows[1]["image_reason"] == "the judge takes 'dog', not 'cat'"
        assert rows[1]["image_choice"] == 1
        assert rows[3]["text_choices"] == [0, 0]
        assert rows[0]["text_choices"] == [0, 0]  # sure, and wrong: it needs the image
        assert rows[0]["text_verdict"] == "not_answered"
        assert (rows[4]["duplicate_of"], rows[4]["duplicate_similarity"]) == (0, 1.0)
        assert [rows[i]["overlap_verdict"] for i in (0, 5, 6, 10)] == ["none", "question_and_choices", "image", "image"]
        assert rows[7]["leak_reason"] == "it has the right choice's words: 'green sailing boat'"
        assert told["rows"] == 11
        assert told["kept"] == 1
        assert told["image_verdict"] == {"agrees": 7, "disagrees": 1, "no_image": 1, "unsure": 1}
        assert rows[0]["input_tokens"] == 300  # of three answers
        asked = len(vendor.questions())
        assert asked == 9 + 2 * 9  # the double's text is asked about once
        assert (told["asked"], told["cached"]) == (29, 2)
        spent = {tuple(sorted(line.labels.items())) for line in judge.spending()}
        assert spent == {(("round", "2"), ("step", step)) for step in ("verify-image", "verify-text")}

        made = {place.name: place.read_bytes() for place in places["out"].iterdir()}
        _verify(judge, places, _settings(places))
        (places["out"] / "verdicts.parquet").unlink()
        _verify(judge, places, _settings(places, at_once=2))
        assert len(vendor.questions()) == asked
    assert {place.name: place.read_bytes() for place in places["out"].iterdir()} == made


def test_judges_see_neither_answer_nor_rationale_nor_each_others_order(
    vendor: VendorServer, places: dict[str, Path]
) -> None:
    vendor.answer = _answer
    with _judge(vendor, places) as judge:
        _verify(judge, places, _settings(places))
    asked = [_text(seen.body) for seen in vendor.questions()]
    assert sum(sees for _, sees in asked) == 9
    for prompt, _ in asked:
        assert "Explanation" not in prompt
        assert "answer is" not in prompt
    orders = {_choices_line(prompt) for prompt, sees in asked if not sees and "capital" in prompt}
    assert len(orders) == 2


def test_what_the_rules_let_through(vendor: VendorServer, places: dict[str, Path]) -> None:
    vendor.answer = _answer
    lenient = VerifyRules(False, False, False, False, False, None, False)
    with _judge(vendor, places) as judge:
        _, kept, rows = _verify(judge, places, _settings(places, rules=lenient))
        assert len(kept) == 10  # all but the broken one
        assert rows[1]["image_verdict"] == "disagrees"  # the columns stay
        _, kept, _ = _verify(judge, places, _settings(places, rules=VerifyRules(overlap="image")))
        assert [row["image_id"] for row in kept] == [0, 5]
    with pytest.raises(VlfilterError, match="no overlap called 'text'"):
        VerifyRules(overlap="text")


def test_without_judges_the_rest_is_found(places: dict[str, Path]) -> None:
    wanted = _settings(places, image_judge=None, text_judge=None, evaluation_images=None)
    _, kept, rows = _verify(None, places, wanted)
    assert {row["image_verdict"] for row in rows[:9]} == {"not_asked"}
    assert [row["image_id"] for row in kept] == [0, 1, 2, 3, 99, 8]  # the copy is found by its pixels only


def test_doubles_of_earlier_rounds_are_found(places: dict[str, Path]) -> None:
    """The same question about the same image, or with the same choices; another question about an image stays."""
    first, second = places["out"].parent / "round_1.json", places["out"].parent / "round_2.json"
    first.write_text(json.dumps([{"question": "broken"}, _row(0, "Which thing stands there?", ["a", "b", "c"], 0)]))
    second.write_text(
        json.dumps([_row(50, *PLAIN), _row(1, ROWS[1]["question"], ["ant", "bee", "fly", "gnat"], 2), ROWS[3]])
    )
    places["rows.json"].write_text(json.dumps(ROWS[:4] + ROWS[5:6]))
    wanted = _settings(places, image_judge=None, text_judge=None, evaluation=None, evaluation_images=None)
    told, kept, rows = _verify(None, places, replace(wanted, earlier=(str(first), str(second))))
    assert [(row["earlier_verdict"], row["earlier_row"], row["status"]) for row in rows] == [
        ("question_and_choices", 0, "earlier"),
        ("image_and_question", 1, "earlier"),
        ("none", None, "ok"),
        ("image_and_question", 2, "earlier"),
        ("none", None, "ok"),
    ]
    assert rows[0]["reason"] == f"it shares question_and_choices with row 0 of {second} (similarity 1.00)"
    assert told["earlier_verdict"] == {"image_and_question": 2, "none": 2, "question_and_choices": 1}
    assert [row["image_id"] for row in kept] == [2, 5]

    _, kept, rows = _verify(None, places, replace(wanted, earlier=(str(first),)))  # other files, other verdicts
    assert (rows[0]["earlier_verdict"], rows[0]["earlier_row"], rows[0]["status"]) == ("image", 1, "ok")
    assert len(kept) == 5
    _, kept, rows = _verify(None, places, wanted)
    assert {row["earlier_verdict"] for row in rows} == {"not_asked"}
    lenient = replace(wanted, earlier=(str(first), str(second)), rules=VerifyRules(duplicate=False))
    _, kept, rows = _verify(None, places, lenient)
    assert (len(kept), rows[1]["earlier_verdict"]) == (5, "image_and_question")  # the columns stay


def test_a_judge_that_fails_is_asked_again(vendor: VendorServer, places: dict[str, Path]) -> None:
    places["rows.json"].write_text(json.dumps(ROWS[:1]))
    vendor.answer = _answer
    vendor.script(Play("status", status=500))
    with _judge(vendor, places) as judge:
        told, kept, rows = _verify(judge, places, _settings(places))
        assert (told["open"], kept, rows[0]["status"]) == (1, [], "image_failed")
        assert "HTTP 500" in rows[0]["reason"]
        told, kept, rows = _verify(judge, places, _settings(places))
        assert (told["open"], len(kept)) == (0, 1)
        vendor.script(Play("refusal", text="I will not."))
        told, kept, rows = _verify(judge, places, _settings(places, seed=8))
        assert (told["open"], rows[0]["status"]) == (0, "image_refused")


def test_a_judge_that_always_takes_the_first_letter_has_not_answered(
    vendor: VendorServer, places: dict[str, Path]
) -> None:
    rows = [_row(0, f"Which thing is number {i} of them all?", ["w", "x", "y", "z"], i % 4) for i in range(24)]
    places["rows.json"].write_text(json.dumps(rows))
    vendor.answer = lambda _: '{"answer": "A"}'
    with _judge(vendor, places) as judge:
        told, _, found = _verify(judge, places, _settings(places, image_judge=None))
    right_once = [row for row, one in zip(found, rows, strict=True) if one["correct_choice_idx"] in row["text_choices"]]
    assert right_once
    assert told["text_verdict"] == {"not_answered": 24}


def test_the_estimate_asks_nothing(vendor: VendorServer, places: dict[str, Path]) -> None:
    with_image, without = requests_for(str(places["rows.json"]), _settings(places))
    assert (len(list(with_image)), len(list(without))) == (9, 20)
    assert not vendor.questions()


_choices = st.lists(st.text(max_size=3), min_size=1, max_size=6)


@settings(max_examples=200)
@given(_choices, st.integers(0, 5), st.integers())
def test_orders_are_shuffles_and_move_the_answer(choices: list[str], correct: int, seed: int) -> None:
    row = VqaRow("Q?", tuple(choices), correct % len(choices))
    orders = [order_of(row, seed, turn) for turn in range(3)]
    assert all(sorted(order) == list(range(len(choices))) for order in orders)
    assert orders == [order_of(row, seed, turn) for turn in range(3)]
    if len(choices) > 1:
        assert orders[1].index(row.correct_choice_idx) != orders[2].index(row.correct_choice_idx)


def test_the_answer_moves_over_all_letters() -> None:
    rows = [VqaRow(f"Question {i}?", ("a", "b", "c", "d"), 0) for i in range(400)]
    counts = np.bincount([order_of(row, 0, 0).index(0) for row in rows], minlength=4)
    assert counts.min() > 70
    assert ask_without_image(rows[0], 0, 1, 9, {}).request != ask_without_image(rows[0], 1, 1, 9, {}).request


@pytest.mark.parametrize(
    ("question", "choices", "correct", "leaks"),
    [
        ("Is the cat black or white?", ["black", "white"], 0, False),
        ("What colour is the black cat?", ["black", "white"], 0, True),
        ("Why is the umbrella open?", ["because of the rain", "umbrella", "sun"], 0, False),
        ("What is the man with the RED hat wearing?", ["a red hat", "a coat", "shoes"], 0, True),
        ("Is it on the left?", ["yes", "no"], 0, False),
        ("What is in the catalogue?", ["cat", "dog"], 0, False),
        ("Which one? The answer is (B).", ["cat", "dog"], 1, True),
        ("?", ["", "x"], 0, False),
    ],
)
def test_leaks(question: str, choices: list[str], correct: int, leaks: bool) -> None:
    assert bool(leaked(VqaRow(question, tuple(choices), correct))) == leaks


def test_doubles_of_one_image_need_the_question_only() -> None:
    question = "What is the tall man in the yellow coat holding?"
    rows = [
        parse_row(_row(image, question, choices, 0))
        for image, choices in ((1, ["pen", "cup", "dog"]), (1, ["axe", "jar", "owl"]), (2, ["fan", "key", "rug"]))
    ]
    assert {place: match.place for place, match in duplicates(rows, 0.8).items()} == {1: 0}


def test_an_image_is_found_by_path_or_by_the_name_its_id_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "set" / "photo.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "12.png")
    for image in ({"image_id": "set/photo"}, {"image_id": 12}, {"image_path": "set/photo.png", "image_id": 3}):
        row = parse_row({"question": "?", "choices": ["a"], "correct_choice_idx": 0} | image)
        assert load(row, str(tmp_path)).media_type == "image/png"
    for path in ("../x.png", "a\x00b", "set"):
        with pytest.raises(SampleError):
            load(VqaRow("?", ("a",), 0, image_path=path), str(tmp_path))
