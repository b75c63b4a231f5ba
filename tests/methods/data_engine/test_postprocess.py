"""Post-processing against what the original does with the same replies, and what is mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods.data_engine.fixtures import copied, shared
from vlfilter.data.annotations import read_instructions
from vlfilter.data.aokvqa import parse_row
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.cleaning import clean_compat, clean_fixed, squeeze
from vlfilter.methods.data_engine.llava import training_texts
from vlfilter.methods.data_engine.postprocess import PostprocessSettings, postprocess, process_rows
from vlfilter.methods.data_engine.postprocess_rows import MODES, Mode, process_row
from vlfilter.methods.data_engine.replies import Drop, DropError

CASES = copied("step4/postprocess_cases.jsonl")
ROW_PARTS = ("question", "choices", "correct_choice_idx", "rationales")
MENDED: dict[str, dict[str, Any] | Drop] = {  # what `fixed` gives instead; nothing else may differ
    "and_suffix_corruption_question": {
        "question": "What is in the man's hand?",
        "choices": ["sand", "a wristband", "a stand, maybe", "a brand"],
        "rationales": ["Explanation: The man stands on the sand, with his hand."],
    },
    "choice_with_parens": {"choices": ["man (left)", "woman (right)", "cat", "dog"]},
    "choice_last_with_parens": {"choices": ["man", "woman", "cat", "dog (small)"]},
    "choice_empty": Drop.EMPTY_CHOICE,
    "choices_letter_paren_only": {"choices": ["red", "blue", "green", "black"]},
    "answer_E_but_four_choices": Drop.BAD_LETTER,
    "bbox_only_choice": Drop.EMPTY_CHOICE,
    "skip_lower_inside_word": {"question": "Is the girl skipping rope?"},
    "skipper_word": {"rationales": ["Explanation: The skipper steers."]},
    "coordinate_in_word_coordinated": {"rationales": ["Explanation: coordinated outfits."]},
    "no_question_label": {"question": "What is it?"},
    "markdown_bold": {"question": "What?", "choices": ["r", "b", "g", "k"], "rationales": ["Explanation: e."]},
    "nonbbox_brackets_stripped": {"question": "What does [STOP] mean?"},
    "bbox_stripped_and": {"question": "How do the men interact?"},
    "answer_spaces_in_paren": {"correct_choice_idx": 1},
    "explanations_plural_multi_line": {"rationales": ["Explanations: Line one.\nLine two."]},
    "skip_upper_inside_full_QA_kept": Drop.SKIP,
}


def _processed(text: str, mode: Mode) -> dict[str, Any] | Drop:
    try:
        row = process_row({"image_id": 1, "raw_instructions": text}, mode)
    except DropError as error:
        return error.status
    return {name: row[name] for name in ROW_PARTS}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_compat_is_the_original(case: dict[str, Any]) -> None:
    processed = _processed(case["raw_instructions"], "compat")
    if case["status"] == "kept":
        assert processed == {name: case[name] for name in ROW_PARTS}
    else:
        assert isinstance(processed, Drop)
    if case["status"] == "CRASH":
        assert processed == Drop.BAD_LETTER


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_fixed_differs_where_it_should_and_nowhere_else(case: dict[str, Any]) -> None:
    processed = _processed(case["raw_instructions"], "fixed")
    mended = MENDED.get(case["name"])
    if mended is None:
        assert isinstance(processed, Drop) == (case["status"] != "kept")
        assert isinstance(processed, Drop) or processed == {name: case[name] for name in ROW_PARTS}
    elif isinstance(mended, Drop):
        assert processed == mended
    else:
        assert isinstance(processed, dict)
        assert {name: processed[name] for name in mended} == mended
        if case["status"] == "kept":
            assert processed == {name: case[name] for name in ROW_PARTS} | mended


def test_every_mended_case_is_one() -> None:
    assert set(MENDED) <= {case["name"] for case in CASES}
    for case in CASES:
        if case["name"] in MENDED:
            was = {name: case.get(name) for name in ROW_PARTS} if case["status"] == "kept" else None
            assert _processed(case["raw_instructions"], "fixed") != was


@pytest.mark.parametrize("case", copied("step4/remove_bbox_cases.json"), ids=lambda case: case["in"])
def test_boxes_and_blanks_go_as_in_the_original(case: dict[str, str]) -> None:
    assert clean_compat(case["in"]) == case["remove_bbox_v2"]
    assert squeeze(case["in"]) == case["remove_blank"]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("the men [0.1, 0.2, 0.3, 0.4] and [0, 1.0, .5, 0.7] run", "the men run"),
        ("1,000 cars, 2 dogs", "1,000 cars, 2 dogs"),
        ("footnote [1] and [STOP]", "footnote [1] and [STOP]"),
        ("land, sea and, sand.", "land, sea, sand."),
        ("a and and.", "a."),
    ],
)
def test_fixed_takes_out_boxes_only(text: str, cleaned: str) -> None:
    assert clean_fixed(text) == cleaned


def test_other_replies_that_fixed_reads() -> None:
    ends = "\nAnswer: The answer is (A): r.\nExplanation: e."
    assert _processed(f"Question: Q?\nChoices: (A) same (B) Same (C) x{ends}", "fixed") == Drop.SAME_CHOICES
    assert _processed(f"Question: Q?\nChoices: (A) only{ends}", "fixed") == Drop.TOO_FEW_CHOICES
    assert _processed(f"Question:\nChoices: (A) r (B) b{ends}", "fixed") == Drop.NO_QUESTION
    assert _processed(f"Sure.\nChoices: (A) r (B) b{ends}", "fixed") == Drop.NO_QUESTION
    assert _processed("I have to state 'skip' here.", "fixed") == Drop.SKIP
    rope = _processed(f"Question: Who will skip?\nChoices: (A) r (B) b{ends}", "fixed")
    assert isinstance(rope, dict)
    cut = {"raw_instructions": f"Question: Q?\nChoices: (A) r (B) b{ends}", "truncated": True}
    with pytest.raises(DropError, match="truncated"):
        process_row(cut, "fixed")
    assert "truncated" not in process_row(cut, "compat")


def test_the_originals_own_rows() -> None:
    demo = [json.loads(line) for line in shared("step4/demo_gptvqa_result.jsonl").read_text().splitlines()]
    expected = json.loads(shared("step4/demo_expected_train_data.json").read_text())
    assert [row for _, row in process_rows(demo, "compat")[0]] == expected["expected"]
    shipped = json.loads(shared("step4/shipped_train_demo.json").read_text())
    assert [row for _, row in process_rows(shipped["input"], "compat")[0]] == shipped["expected"]
    fixed, dropped = process_rows(demo, "fixed")
    assert not dropped
    assert fixed[1][1]["question"] == "What is the activity the people are engaging in?"


@pytest.mark.parametrize("mode", MODES)
def test_a_file(tmp_path: Path, mode: Mode) -> None:
    replies = tmp_path / "gptvqa_result.jsonl"
    lines = [
        json.dumps({"image_id": i, "raw_instructions": case["raw_instructions"], "question_type": "image_scene"})
        for i, case in enumerate(CASES)
    ]
    lines += ["{torn", "[]", json.dumps({"image_id": 5}), json.dumps({"raw_instructions": "Question: \ud800"})]
    replies.write_text("\n".join(lines) + "\n")
    output, llava = tmp_path / "round_1" / "gptvqa_train_data.json", tmp_path / "round_1" / "llava.json"
    wanted = PostprocessSettings(mode, str(llava), "QM-AE", "train2017")
    told = postprocess(str(replies), str(output), wanted)
    rows = json.loads(output.read_text())
    rejected = pq.read_table(tmp_path / "round_1" / "rejected.parquet").to_pylist()
    train = [row for row in rejected if row["file"] == "train"]
    assert told["replies"] == len(lines) == len(rows) + len(train)
    assert told["kept"] == len(rows)
    assert sum(told["dropped"].values()) == len(train)
    assert all(row["reason"] and row["raw_instructions"] is not None for row in rejected)
    assert {row["status"] for row in train} >= {"bad_row", "no_choices", "skip", "bad_letter"}
    assert list(rows[0]) == ["image_id", "raw_instructions", "question_type", *ROW_PARTS]

    conversations, bad = read_instructions(str(llava))
    assert not bad
    assert len(conversations) == len(rows) - told["not_in_llava"]
    assert told["not_in_llava"] == (1 if mode == "compat" else 0)  # the answer E of four choices
    assert conversations[0].image == "train2017/000000000000.jpg"
    assert conversations[0].turns[0].text == "<image>\nWhat color is the cat?\n(A) red (B) blue (C) green (D) black"
    assert conversations[0].turns[1].text == (
        "The answer is (B) blue. Explanation: By looking at the image, the cat is blue."
    )

    made = {place.name: place.read_bytes() for place in output.parent.iterdir()}
    assert postprocess(str(replies), str(output), wanted) == told
    output.unlink()
    assert postprocess(str(replies), str(output), wanted) == told
    assert {place.name: place.read_bytes() for place in output.parent.iterdir()} == made


def test_fixed_on_its_own_output_changes_nothing(tmp_path: Path) -> None:
    rows = [{"image_id": i, "raw_instructions": case["raw_instructions"]} for i, case in enumerate(CASES)]
    once = [row for _, row in process_rows(rows, "fixed")[0]]
    again, dropped = process_rows(once, "fixed")
    assert not dropped
    assert [row for _, row in again] == once
    for row in once:
        assert [clean_fixed(text) for text in row["choices"]] == row["choices"]
    place = tmp_path / "gptvqa_train_data.json"
    place.write_text(json.dumps(once))
    postprocess(str(place), str(tmp_path / "again.json"), PostprocessSettings("fixed"))
    assert json.loads((tmp_path / "again.json").read_text()) == once


def test_the_three_wordings() -> None:
    row = parse_row(
        {"question": " Q? ", "choices": ["a", "b"], "correct_choice_idx": 1, "rationales": ["Why.", "Explanation: x."]}
    )
    assert training_texts(row, "Q-A") == ("Q?", "The answer is b.")
    assert training_texts(row, "QM-A") == ("Q?\n(A) a (B) b", "The answer is (B) b.")
    assert training_texts(row, "QM-AE") == ("Q?\n(A) a (B) b", "The answer is (B) b. Explanation: x.")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="there is no file"):
        postprocess(str(tmp_path / "none.jsonl"), str(tmp_path / "o.json"), PostprocessSettings())
    with pytest.raises(VlfilterError, match="the mode is 'best'"):
        PostprocessSettings("best")  # type: ignore[arg-type]
    with pytest.raises(VlfilterError, match="the format is"):
        PostprocessSettings(form="Q")  # type: ignore[arg-type]


_pieces = st.lists(
    st.sampled_from(
        ["Question:", "Choices:", "Answer:", "Explanation:", "**", "(A)", "(B)", "(C)", "A)", "(", ")", "[0.1, 0.2]",
         "[", "]", " and ", ",", ".", "?", "\n", " ", "sand", "Skip", "1,000", "description", "located at"]
    )
    | st.text(max_size=4),
    max_size=30,
).map("".join)  # fmt: skip


@settings(max_examples=300)
@given(_pieces, st.sampled_from(MODES))
def test_any_text_gives_a_row_or_a_reason(text: str, mode: Mode) -> None:
    processed = _processed(text, mode)
    if mode == "fixed" and isinstance(processed, dict):
        row = parse_row(processed)  # usable in training: a letter that a choice has, no empty choice
        assert all(row.choices)


@settings(max_examples=300)
@given(_pieces)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean_fixed(clean_fixed(text)) == clean_fixed(text)


@given(st.none() | st.integers() | st.text() | st.dictionaries(st.sampled_from(["raw_instructions", "x"]), st.none()))
def test_any_row_gives_a_reason(row: Any) -> None:
    for mode in MODES:
        kept, dropped = process_rows([row], mode)
        assert not kept
        assert dropped[0]["status"] == Drop.BAD_ROW
