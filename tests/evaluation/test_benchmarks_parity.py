"""Prompts, result files and scores of the five benchmarks, equal to what the published scripts gave."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tests.evaluation.published_files import files, fixture, published, read, scripted
from tests.methods.data_engine.fixtures import COPIED
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import Answered, Reading, Source
from vlfilter.evaluation.benchmarks.seed import converter_report
from vlfilter.evaluation.given import read_given
from vlfilter.evaluation.prompts import MINIGPT_V2
from vlfilter.evaluation.vqa import percent

NAMES = ["okvqa", "vizwiz", "vsr", "seed", "mmbench"]


def accuracy(name: str, answered: list[Answered], rule: str) -> float:
    benchmark = find_benchmark(name)
    return percent(benchmark.mark(one.question, one.written or "", rule) for one in answered)


@pytest.mark.parametrize("name", NAMES)
def test_prompts(name: str, tmp_path: Path) -> None:
    form = MINIGPT_V2
    asked = [
        f"{form.head}<ImageHere>{form.between}{question.item.message}{form.tail}"
        for question in read(name, tmp_path).questions
    ]
    assert asked == [call["text"] for call in fixture(name)["run"]["calls"]]


@pytest.mark.parametrize("name", ["okvqa", "vizwiz", "vsr"])
def test_result_files(name: str, tmp_path: Path) -> None:
    written = files(name, scripted(name, read(name, tmp_path)))[f"{name}.json"]
    assert json.loads(written) == fixture(name)["result_file"]


@pytest.mark.parametrize(
    ("name", "compat", "fixed"), [("okvqa", 33.33, 66.67), ("vizwiz", 33.33, 66.67), ("vsr", 50.0, 75.0)]
)
def test_scores(name: str, compat: float, fixed: float, tmp_path: Path) -> None:
    """As published; by the house's rule "nike." is ten people's "nike", "my_file" and "<unk>yes" are right, and
    "true." is true."""
    printed = fixture(name)["run"]["stdout"]
    answered = scripted(name, read(name, tmp_path))
    assert accuracy(name, answered, "compat") == compat
    assert round(float(printed.rpartition(" ")[2]), 2) == compat
    assert accuracy(name, answered, "fixed") == fixed


@pytest.mark.parametrize("name", ["seed", "mmbench"])
def test_result_lines(name: str, tmp_path: Path) -> None:
    written = files(name, scripted(name, read(name, tmp_path)))[f"{name}.jsonl"].decode()
    assert [json.loads(line) for line in written.splitlines()] == fixture(name)["result_lines"]


def given(results: list[dict[str, Any]], reading: Reading, folder: Path) -> list[Answered]:
    """Answers as the converter finds them in a result file."""
    (folder / "seed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in results))
    texts = read_given(str(folder / "seed.jsonl"), find_benchmark("seed"), reading, allow_missing=True)
    return [Answered(question, texts.get(question.item.key)) for question in reading.questions]


def test_the_converter_of_seed(tmp_path: Path) -> None:
    told, reading = fixture("seed"), read("seed", tmp_path)
    assert converter_report(given(told["result_lines"], reading, tmp_path)) == told["convert_full"]["stdout"]
    part = told["convert_missing_results"]
    first = told["result_lines"][: part["used_first_n_results"]]
    assert converter_report(given(first, reading, tmp_path)) == part["stdout"]


def test_a_type_without_a_right_answer_is_no_crash(tmp_path: Path) -> None:
    told, reading = fixture("seed")["convert_type2_all_wrong"], read("seed", tmp_path)
    assert told["status"].startswith("KeyError")
    lines = converter_report(given(told["results"], reading, tmp_path)).splitlines()
    assert lines[0] + "\n" == told["stdout"]
    assert lines[1] == "Instance Identity: 0.00%"
    assert lines[-1].startswith("image accuracy: ")


def test_a_result_under_an_id_that_is_no_number_counts_for_nothing(tmp_path: Path) -> None:
    """The fixture's run: the first result is that of another question, so its own is missing."""
    told, reading = fixture("seed"), read("seed", tmp_path)
    assert (
        converter_report(given(told["result_lines"][1:], reading, tmp_path))
        == (told["convert_string_question_id"]["stdout"])
    )


def test_seed_by_the_options_that_are_meant(tmp_path: Path) -> None:
    answered = scripted("seed", read("seed", tmp_path))
    assert accuracy("seed", answered, "compat") == 66.67
    assert accuracy("seed", answered, "fixed") == 83.33  # "(C)" and "The answer is A" too


def test_the_sheet_of_mmbench_cell_by_cell(tmp_path: Path) -> None:
    told = fixture("mmbench")
    written = files("mmbench", scripted("mmbench", read("mmbench", tmp_path)))["mmbench.xlsx"]
    page = openpyxl.load_workbook(io.BytesIO(written)).active
    expected = openpyxl.load_workbook(COPIED / "v2" / "mmbench_expected.xlsx").active
    assert page.title == expected.title
    assert page.dimensions == expected.dimensions
    cells = [[(cell.coordinate, cell.value) for cell in row] for row in page.iter_rows()]
    assert cells == [[(cell.coordinate, cell.value) for cell in row] for row in expected.iter_rows()]
    assert [cell.value for cell in page[1]] == told["xlsx_columns"]
    types = [[cell.data_type for cell in row if cell.value is not None] for row in page.iter_rows()]
    assert types == [[cell.data_type for cell in row if cell.value is not None] for row in expected.iter_rows()]


def test_none_is_an_option_by_default(tmp_path: Path) -> None:
    source = Source(published("mmbench", tmp_path))
    question = find_benchmark("mmbench").read(source).questions[-1]
    assert question.options == {"A": "None", "B": "yes", "C": "no"}
    assert question.item.message.startswith("[vqa] None option?\nA. None\nB. yes\nC. no\n")
    assert read("mmbench", tmp_path).questions[-1].options == {"B": "yes", "C": "no"}
