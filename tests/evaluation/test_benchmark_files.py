"""The benchmarks' files as they should not be: a counted row for a bad row, one message for a bad file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.published_files import fixture, lines, published
from tests.helpers import jpeg
from vlfilter.data.aokvqa import BadRow
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks import BENCHMARKS, TITLES, find_benchmark
from vlfilter.evaluation.benchmarks.base import Benchmark, Mode, Reading, Source
from vlfilter.evaluation.benchmarks.reading import collect, read_rows
from vlfilter.evaluation.params import parse_params

IMAGE = base64.b64encode(jpeg(0)).decode()
HEADER = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"]


def table(*rows: dict[str, str]) -> str:
    filled = [{"A": "yes", "B": "no", "answer": "A", "image": IMAGE, "question": "Is it?"} | row for row in rows]
    return "".join("\t".join(row.get(name, "") for name in HEADER) + "\n" for row in ({n: n for n in HEADER}, *filled))


def mmbench(folder: Path, text: str, mode: Mode = "fixed") -> Reading:
    (folder / "m.tsv").write_text(text)
    return find_benchmark("mmbench").read(Source(str(folder / "m.tsv"), mode=mode))


def reasons(reading: Reading) -> dict[int, str]:
    return {bad.number: bad.reason for bad in reading.bad}


def test_every_name_is_a_benchmark() -> None:
    assert list(TITLES) == list(BENCHMARKS)
    for name in BENCHMARKS:
        benchmark = find_benchmark(name)
        assert (benchmark.name, benchmark.title) == (name, TITLES[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sed", "no benchmark is called 'sed'. There are: seed, mmbench"),
        ("nowhere.at:All", "cannot be imported: No module named 'nowhere'"),
        ("json:JSONDecoder", "is no benchmark: give a class derived from"),
    ],
)
def test_a_name_that_is_none(name: str, message: str) -> None:
    with pytest.raises(VlfilterError, match=message.replace("(", r"\(")):
        find_benchmark(name)


def test_rows_of_mmbench_that_cannot_be_asked(tmp_path: Path) -> None:
    text = table(
        {"index": "1"},
        {"index": "2", "A": "", "B": "", "answer": ""},
        {"index": "x3"},
        {"index": "1"},
        {"index": "5", "answer": "D"},
        {"index": "6", "question": " "},
        {"index": "7", "A": "None", "B": "NA", "answer": "B"},
    )
    reading = mmbench(tmp_path, text + "8\tshort\n")
    assert [question.item.key for question in reading.questions] == ["1", "7"]
    assert reasons(reading) == {
        1: "it has no options",
        2: "index is 'x3', not a whole number",
        3: "its id 1 is that of row 0",
        4: "its answer 'D' is none of its options A, B",
        5: "it has no question",
        7: "it has 2 cells, the header 10",
    }
    assert reading.questions[1].options == {"A": "None", "B": "NA"}
    assert reasons(mmbench(tmp_path, text, "compat"))[6] == "it has no options"


def test_rotations_are_one_unit_and_share_an_image(tmp_path: Path) -> None:
    text = table({"index": "12"}, {"index": "1000012", "image": "12"}, {"index": "3000012", "image": "not base64!" * 9})
    questions = mmbench(tmp_path, text).questions
    assert {question.unit for question in questions} == {"12"}
    assert [question.item.image for question in questions] == [jpeg(0), jpeg(0), b"no base64"]


def test_quotes_and_line_breaks_in_cells(tmp_path: Path) -> None:
    text = table({"index": "1", "question": '"He said ""A\tB"".\nReally?"'})
    assert mmbench(tmp_path, text).questions[0].item.message.startswith('[vqa] He said "A\tB".\nReally?\nA. yes\n')


@pytest.mark.parametrize(
    ("name", "data", "change", "reason"),
    [
        ("seed", "seed-bench-image.jsonl", {"text": ""}, "text is empty or no text"),
        ("seed", "seed-bench-image.jsonl", {"question_id": 7}, "the annotations have no question 7"),
        ("seed", "seed-bench-image.jsonl", {"image": None}, "it has no image"),
        ("okvqa", "okvqa_test_split.json", {"question": 5}, "question is not a text"),
        ("okvqa", "okvqa_test_split.json", {"question_id": 9}, "the annotations have no question 9"),
        ("okvqa", "okvqa_test_split.json", {"image_id": "42"}, "image_id is '42', not a whole number"),
        ("okvqa", "okvqa_test_split.json", {"question_id": True}, "question_id is neither a text nor a whole number"),
        ("vizwiz", "val.json", {"answers": [{"answer": 3}]}, "one of its answers is no text"),
        ("vizwiz", "val.json", {"image": "v1.jpg"}, "its id v1.jpg is that of row 1"),
        ("vsr", "test.jsonl", {"label": 2}, "label is 2, neither 0 nor 1"),
        ("vsr", "test.jsonl", {"caption": "  "}, "caption is empty"),
    ],
)
def test_a_bad_row_is_counted(name: str, data: str, change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    published(name, tmp_path)
    file = tmp_path / data
    rows = (
        [json.loads(line) for line in file.read_text().splitlines()]
        if data[-1] == "l"
        else json.loads(file.read_text())
    )
    number = len(rows) - 1
    rows[number] |= change
    file.write_text(lines(rows) if data.endswith("l") else json.dumps(rows))
    reading = find_benchmark(name).read(Source(str(tmp_path)))
    assert reasons(reading) == {number: reason}
    assert len(reading.questions) == number


def test_an_answer_that_is_no_option_of_seed(tmp_path: Path) -> None:
    published("seed", tmp_path)
    told = fixture("seed")["annotation"]
    del told["questions"][3]["choice_d"]
    (tmp_path / "SEED-Bench-image.json").write_text(json.dumps(told))
    assert reasons(find_benchmark("seed").read(Source(str(tmp_path)))) == {3: "its answer 'D' is none of its options"}


def test_lines_that_are_no_json_are_counted(tmp_path: Path) -> None:
    row = json.dumps(fixture("vsr")["annotation"][0])
    (tmp_path / "v.jsonl").write_bytes(f'{row}\n{{"image": \n\n[1]\n{row}\n'.encode() + b"\xff\n")
    reading = find_benchmark("vsr").read(Source(str(tmp_path / "v.jsonl")))
    assert [question.number for question in reading.questions] == [0, 3]
    assert list(reasons(reading)) == [1, 2, 4]
    assert reading.bad[0].reason.startswith("line 2 is no JSON: ")
    assert reading.bad[1].reason == "line 4 is no JSON object"


def test_seed_from_its_annotations_alone(tmp_path: Path) -> None:
    told = fixture("seed")["annotation"]
    told["questions"][1]["data_type"] = "video"
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(told))
    questions = find_benchmark("seed").read(Source(str(tmp_path))).questions
    assert len(questions) == 11
    assert questions[0].item.message.startswith("[vqa] q\nA. a\nB. b\nC. c\nD. d\nAnswer with")
    assert questions[0].item.images == ("s101.jpg",)
    assert questions[0].truth == ("A",)


def test_files_under_their_published_names_or_by_path(tmp_path: Path) -> None:
    published("okvqa", tmp_path)
    apart = tmp_path / "apart" / "truth.json"
    apart.parent.mkdir()
    (tmp_path / "mscoco_val2014_annotations_clean.json").rename(apart)
    benchmark = find_benchmark("okvqa")
    unknown = benchmark.read(Source(str(tmp_path / "okvqa_test_split.json"))).questions
    assert all(question.truth == () for question in unknown)
    known = benchmark.read(Source(str(tmp_path), str(apart))).questions
    assert known[1].truth == ("4",) * 6 + ("four",) * 4
    (tmp_path / "q.json").write_text(json.dumps(fixture("okvqa")["questions"]))  # the challenge's own form
    assert benchmark.read(Source(str(tmp_path / "q.json"), str(apart))).questions == known


def test_question_types_have_names(tmp_path: Path) -> None:
    published("okvqa", tmp_path)
    told = fixture("okvqa")["annotations"] | {"question_types": {"four": "Sports", "one": "Animals"}}
    (tmp_path / "mscoco_val2014_annotations_clean.json").write_text(json.dumps(told))
    kinds = [question.category for question in find_benchmark("okvqa").read(Source(str(tmp_path))).questions]
    assert kinds == ["Sports", "Animals", "Animals"]


def test_a_parquet_file_as_hubs_have_it(tmp_path: Path) -> None:
    rows = [row | {"relation": "left of"} for row in fixture("vsr")["annotation"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    questions = find_benchmark("vsr").read(Source(str(tmp_path))).questions
    assert [(question.truth, question.category) for question in questions][:2] == [
        (("true",), "left of"), (("false",), "left of")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: None, "holds no VizWiz questions: val.json"),
        (lambda folder: (folder / "val.json").write_text("{"), "is not a JSON file"),
        (lambda folder: (folder / "val.json").write_text('{"a": 1}'), "is not a JSON list of questions"),
        (lambda folder: (folder / "val.json").write_text("[" * 100_000), "is not a JSON file"),
    ],
)
def test_a_file_that_is_something_else(write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(VlfilterError, match=message):
        find_benchmark("vizwiz").read(Source(str(tmp_path)))


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match=r"there is no MMBench table at /nowhere/x\.tsv"):
        find_benchmark("mmbench").read(Source("/nowhere/x.tsv"))
    for name, content, message in (
        ("m.tsv", "one column\n", "has no header of columns"),
        ("b.tsv", b"\xff\xfe", "is not a text in UTF-8"),
        ("p.parquet", b"PAR0", "is not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(VlfilterError, match=message):
            read_rows(str(tmp_path / name))


def test_the_tag_can_be_left_out(tmp_path: Path) -> None:
    source = Source(published("mmbench", tmp_path), tag="")
    assert "[vqa]" not in find_benchmark("mmbench").read(source).questions[0].item.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("question_id", "image", "image_id", "question", "text", "caption", "label", "answers", "answer", "index",
          "choices", "correct_choice_idx", "direct_answers", "data_id", "A", "hint")  # fmt: skip
any_rows = st.lists(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8), max_size=4)


@pytest.mark.parametrize("name", ["seed", "okvqa", "vizwiz", "vsr", "aokvqa"])
@given(rows=any_rows)
def test_any_rows_are_questions_or_bad(name: str, rows: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / f"any-{name}"
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text(lines(rows))
    reading = find_benchmark(name).read(Source(str(folder / "rows.jsonl")))
    numbers = {question.number for question in reading.questions} | {bad.number for bad in reading.bad}
    assert numbers == set(range(len(rows)))


@given(parts=st.lists(st.binary(max_size=40)))
def test_any_bytes_are_rows_or_bad(parts: list[bytes], tmp_path_factory: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(b"\n".join(parts))
    found = read_rows(str(file))
    assert all(isinstance(row, dict | BadRow) for row in found)
    assert len(found) == sum(bool(line.strip()) for line in b"\n".join(parts).split(b"\n"))


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(HEADER, cells)), max_size=4))
def test_any_cells_come_back_as_they_were(rows: list[dict[str, str]]) -> None:
    import csv
    import io

    from vlfilter.evaluation.benchmarks import reading

    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, HEADER, delimiter="\t")
    writer.writeheader()
    writer.writerows(rows)
    assert reading._tsv(file.getvalue().encode(), "t.tsv") == rows


def test_a_benchmark_of_ones_own_is_one_small_class(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(lines([{"question_id": 1, "question": "How many?", "answer": "2"}]))
    benchmark = find_benchmark("tests.evaluation.own_benchmark:Counting")
    assert isinstance(benchmark, Benchmark)
    (question,) = benchmark.read(Source(str(tmp_path / "q.jsonl"))).questions
    assert benchmark.mark(question, " 2 ", "fixed") == 1.0
    assert collect([], lambda number, row: []).questions == []


def test_the_example_names_the_benchmarks_of_the_papers() -> None:
    path = Path(__file__).parents[2] / "deployments" / "evaluate.yaml"
    params = parse_params(yaml.safe_load(path.read_text()), path.name)
    assert [step.benchmark for step in params.benchmarks] == [name for name in BENCHMARKS if name != "refcoco"]


def test_the_class_in_the_documentation_is_the_one_that_is_tested() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    shown = docs.split("```python\n")[1].split("```")[0]
    code = Path(__file__).with_name("own_benchmark.py").read_text()
    assert shown.strip() in code.replace("  # noqa: ARG002 - there is one rule", "")
