from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data.annotations import Instruction, Turn, read_instructions, write_instructions
from vlfilter.data.storage import filesystem
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus, read_grades, write_grades
from vlfilter.methods.mlm_filter.mixing import (
    check_images,
    missing_images,
    mix,
    mix_instructions,
    quality_instruction,
    subsample,
)
from vlfilter.methods.mlm_filter.questions import target_answer
from vlfilter.scoring.answers import read_score
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction

ITM, SU = METRICS[0], METRICS[3]


def grade(name: str = "p", score: int | None = 85, answer: str = "85\nIt fits.", **changes: Any) -> Grade:
    status = GradeStatus.OK if score is not None else GradeStatus.REFUSED
    return replace(Grade(name, f"quality/{name}.jpg", "a dog", ITM, 1, score, answer, str(status), ""), **changes)


def row(name: str, image: str | None = None) -> Instruction:
    return Instruction(name, (Turn("human", "What?"), Turn("gpt", "That.")), image)


def llava(path: Path, rows: list[Instruction], *bad: Any) -> str:
    path.write_text(json.dumps([*[r.to_json() for r in rows], *bad]))
    return str(path)


def test_a_row_holds_the_published_question_and_the_score_first() -> None:
    found = quality_instruction(grade())
    assert found.to_json() == {
        "id": f"p_{ITM}",
        "image": "quality/p.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\n" + instruction(ITM, "a dog", 1)},
            {"from": "gpt", "value": "85\nIt fits."},
        ],
    }
    assert quality_instruction(grade(version=2)).turns[0].text == "<image>\n" + instruction(ITM, "a dog", 2)


def test_a_placeholder_in_the_data_claims_no_second_image() -> None:
    found = quality_instruction(grade(caption="an <image> of a dog", answer="85\nThe <image> shows it."))
    assert [turn.text.count("<image>") for turn in found.turns] == [1, 0]
    assert "an image of a dog" in found.turns[0].text


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("85\nIt fits.", "85\nIt fits."),
        ("  85 \n\n It fits.\nWell.", "85\nIt fits.\nWell."),
        ("85", "85"),
        ("Score: 85\nIt fits.", "85\nIt fits."),
        ("Image Text Matching Score: 85\nIt fits.", "85\nIt fits."),
        ("**85**\n\nIt fits.", "85\nIt fits."),
        ("85. It fits 100%.", "85\nIt fits 100%."),
        ("85/100\nIt fits.", "85\nIt fits."),
        ("85 - it fits", "85\nit fits"),
    ],
)
def test_the_target_is_the_score_alone_then_the_rationale(answer: str, target: str) -> None:
    assert read_score(answer) == 85
    assert target_answer(85, answer) == target


@given(st.integers(0, 100), st.text(max_size=40))
def test_a_target_always_reads_as_its_score(score: int, rationale: str) -> None:
    target = target_answer(score, f"{score}\n{rationale}")
    assert read_score(target) == score
    assert target.split("\n")[0] == str(score)


@given(st.lists(st.sampled_from(["a", "b", "c", "a-2", ""]), max_size=30), st.integers(0, 5))
def test_mixing_keeps_every_row_and_every_id_once(names: list[str], seed: int) -> None:
    rows = [row(name, f"{i}.jpg") for i, name in enumerate(names)]
    mixed, renamed = mix(rows[:3], rows[3:], seed)
    assert sorted(r.image or "" for r in mixed) == sorted(r.image or "" for r in rows)
    assert len({r.id for r in mixed}) == len(rows)
    assert renamed == sum(r.id != rows[int((r.image or "").split(".")[0])].id for r in mixed)
    assert mix(rows[:3], rows[3:], seed)[0] == mixed


def test_a_subsample_is_the_seeds() -> None:
    rows = [row(str(i)) for i in range(100)]
    chosen = subsample(rows, 10, 3)
    assert chosen == subsample(rows, 10, 3)
    assert len(chosen) == 10
    assert chosen != subsample(rows, 10, 4)
    assert {r.id for r in subsample(rows, 5, 3)} < {r.id for r in chosen}


def test_the_step_writes_one_json(tmp_path: Path) -> None:
    grades = str(tmp_path / "balanced.parquet")
    write_grades(grades, [grade("p"), grade("p", metric=SU), grade("q", None, "")])
    data = llava(tmp_path / "llava.json", [row("p_x", "coco/1.jpg"), row("t"), row("t", "2.jpg")], {"id": "bad"})
    output = str(tmp_path / "instructions.json")
    options: dict[str, Any] = {"data": data, "rows": 3, "image_prefix": "general/", "seed": 0}
    summary = mix_instructions(grades, output, **options)
    assert {k: v for k, v in summary.items() if k != "unusable"} == {
        "rows": 5, "quality_rows": 2, "general_rows": 3, "renamed_ids": 1, "unusable_rows": 1,
    }  # fmt: skip
    assert summary["unusable"] == ["row 3 (bad): it has no conversations"]
    good, bad = read_instructions(output)
    assert bad == []
    found = {(r.id, r.image) for r in good}
    assert found == {
        (f"p_{ITM}", "quality/p.jpg"), (f"p_{SU}", "quality/p.jpg"), ("p_x", "general/coco/1.jpg"), ("t", None),
        ("t-2", "general/2.jpg"),
    }  # fmt: skip
    stamp = Path(output).stat().st_mtime_ns
    assert mix_instructions(grades, output, **options) == summary
    assert Path(output).stat().st_mtime_ns == stamp
    assert mix_instructions(grades, output, **{**options, "data": None})["rows"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 4}, "has 3 rows that can be used .* but 4 are to be mixed in: ask for at most 3"),
        ({"data": "nowhere.json"}, "there is no file nowhere.json to mix in"),
        ({"grades": "nowhere.parquet"}, "there are no balanced grades nowhere.parquet"),
        ({"grades": "empty"}, "holds no row with a score"),
        ({"grades": "llava"}, "is no table of grades"),
    ],
)
def test_bad_input_to_the_mix_is_one_clear_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = llava(tmp_path / "llava.json", [row("a"), row("b"), row("c")])
    write_grades(str(tmp_path / "balanced.parquet"), [grade()])
    write_grades(str(tmp_path / "empty.parquet"), [grade("q", None)])
    places = {"empty": str(tmp_path / "empty.parquet"), "llava": data}
    grades = changes.get("grades", str(tmp_path / "balanced.parquet"))
    with pytest.raises(VlfilterError, match=message):
        mix_instructions(
            places.get(grades, grades),
            str(tmp_path / "out.json"),
            data=changes.get("data", data),
            rows=changes.get("rows", 3),
            image_prefix="",
            seed=0,
        )
    assert not (tmp_path / "out.json").exists()


def test_missing_images_are_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.jpg").write_bytes(b"x")
    (tmp_path / "secret.jpg").write_bytes(b"x")
    rows = [row("1", "a/1.jpg"), row("2", "a/2.jpg"), row("3", "../secret.jpg"), row("4"), row("5", "/etc/passwd")]
    folder = str(tmp_path / "images")
    assert missing_images(rows, folder) == ["2: a/2.jpg", "3: ../secret.jpg", "5: /etc/passwd"]
    data = str(tmp_path / "data.json")
    write_instructions(data, rows)
    with pytest.raises(VlfilterError, match=r"3 of 5 rows .* have no image below .*images: 2: a/2.jpg, 3: "):
        check_images(data, folder)
    write_instructions(data, [rows[0], rows[3]])
    assert check_images(data, folder) == {"rows": 2, "with_image": 1}
    llava(tmp_path / "data.json", [rows[0]], {"id": "x"})
    with pytest.raises(VlfilterError, match=r"1 rows cannot be used. The first: row 1 \(x\)"):
        check_images(data, folder)


def test_missing_images_of_a_bucket(s3: str) -> None:
    fs, _ = filesystem(s3)
    fs.pipe_file(f"{s3}/images/a/1.jpg", b"x")
    rows = [row("1", "a/1.jpg"), row("2", "a/2.jpg"), row("3", "../images/a/1.jpg")]
    assert missing_images(rows, f"{s3}/images") == ["2: a/2.jpg", "3: ../images/a/1.jpg"]


def test_grades_come_back_as_written(tmp_path: Path) -> None:
    rows = [grade(), grade("q", None, "", reason="no")]
    write_grades(str(tmp_path / "g.parquet"), rows)
    assert read_grades(str(tmp_path / "g.parquet")) == rows
