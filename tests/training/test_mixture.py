"""A mixture's file, its rows and its draws: the published formats, filters and probabilities."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.methods.data_engine.fixtures import copied
from vlfilter.errors import VlfilterError
from vlfilter.training.mixture import MixtureEntry, parse_mixture, probabilities, read_mixture, with_round
from vlfilter.training.mixture_draws import Draws, draw_table
from vlfilter.training.mixture_rows import CAPTION_QUESTIONS, read_dataset


def entry(tmp_path: Path, rows: Any, **fields: Any) -> MixtureEntry:
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    own = {"name": "some", "schema": "aokvqa", "sample_ratio": 1.0, "images": str(tmp_path)}
    return MixtureEntry.model_validate(own | {"data": str(tmp_path / "rows.json")} | fields)


@pytest.mark.parametrize("form", ["Q-A", "QM-A", "QM-AE", "mmbench"])
def test_rows_are_filtered_and_worded_as_published(tmp_path: Path, form: str) -> None:
    fixture = copied("step5/aokvqa_dataset_formats.json")
    found = read_dataset(entry(tmp_path, fixture["samples"], format=form, mode="compat"), 42)
    assert [int(row.image.split(".")[0]) for row in found.rows if row.image] == fixture["kept_image_ids"]
    texts = [f"{asked}\n###Assistant: {said}" for row in found.rows for asked, said in row.pairs]
    assert texts == ["<image>\n" + row["text_input"] for row in fixture["expected"][form]]
    assert found.filtered == {
        "its correct choice is empty": 1,
        "one of its choices is empty": 1,
        "its first rationale speaks of a description": 1,
        "its image id is a text (mode compat)": 1,
    }
    assert found.unreadable == []


def test_nothing_is_lost_beyond_the_filters(tmp_path: Path) -> None:
    fixture = copied("step5/aokvqa_dataset_formats.json")
    bad = [{"question": "?", "choices": ["a"], "correct_choice_idx": 1, "image_id": 10}, 5]
    imageless = {"question": "?", "choices": ["a"], "correct_choice_idx": 0}
    rows = [*fixture["samples"], *bad, imageless]
    found = read_dataset(entry(tmp_path, {"one": rows[:4], "other": rows[4:]}), 42)
    assert "000000000007.jpg" in [row.image for row in found.rows], "an id in quotes is one, unless compat"
    assert len(found.rows) + sum(found.filtered.values()) + len(found.unreadable) == len(rows)
    assert [line.split(": ", 1)[1] for line in found.unreadable] == [
        "correct_choice_idx is 1, but there are 1 choices",
        "the row is not an object",
        "it names no image",
    ]


def test_an_image_is_told_by_its_path_below_the_folder_or_its_id(tmp_path: Path) -> None:
    row = {"question": "?", "choices": ["a"], "correct_choice_idx": 0, "image_id": 5}
    paths = [{}, {"image_path": "val/x.png"}, {"image_path": "/other/machine/x.png"}]
    found = read_dataset(entry(tmp_path, [row | path for path in paths]), 42)
    assert [row.image for row in found.rows] == ["000000000005.jpg", "val/x.png", "000000000005.jpg"]


def test_a_sample_is_drawn_after_the_first_filter(tmp_path: Path) -> None:
    row = {"question": "?", "choices": ["a", "b"], "correct_choice_idx": 0, "rationales": ["r"]}
    rows = [row | {"image_id": i} for i in range(40)] + [
        row | {"image_id": 90 + i, "choices": ["", "b"]} for i in range(9)
    ]
    found = read_dataset(entry(tmp_path, rows, sample_num=30), 1)
    assert (len(found.rows), found.filtered, found.not_sampled) == (30, {"its correct choice is empty": 9}, 10)
    assert found.rows == read_dataset(entry(tmp_path, rows, sample_num=30), 1).rows
    assert found.rows != read_dataset(entry(tmp_path, rows, sample_num=30), 2).rows
    assert [row.image for row in found.rows] == sorted(str(row.image) for row in found.rows)


def test_captions_get_one_of_the_published_questions(tmp_path: Path) -> None:
    told = [{"image_id": str(i), "caption": f"a picture of {i}"} for i in range(60)]
    rows = {"annotations": [*told, {"image_id": "9", "caption": " "}, {"caption": "lost"}]}
    found = read_dataset(entry(tmp_path, rows, schema="captions"), 42)
    assert found.rows[7].image == "7.jpg"
    assert found.rows[7].pairs[0][1] == "a picture of 7"
    assert {row.pairs[0][0].removeprefix("<image>\n") for row in found.rows} == set(CAPTION_QUESTIONS)
    assert found.unreadable == ["row 60 (9): it has no caption", "row 61 (without id): it names no image"]


def test_the_draws_are_the_published_ones() -> None:
    fixture = copied("v2/multi_iter_loader.json")
    rows = copied("train_mixtures.json")["v2_dataengine"]["rows"]
    ratios = [row["sample_ratio"] for row in rows]
    assert probabilities(ratios) == fixture["normalized_ratios"]
    table = draw_table(ratios, fixture["seed"], 100, 4)
    assert table[:, 0].tolist() == fixture["first_100_loader_indices"]
    assert (draw_table(ratios, 42, 30, 4) == table[:30]).all(), "longer runs begin alike"
    assert (table[:, 1] == draw_table(ratios, 43, 100, 1)[:, 0]).all()
    assert (table[:, 0] != table[:, 1]).any()


def draws(counts: list[int], names: list[str], table: Any, parts: int = 1) -> Draws:
    return Draws(np.array(table), names, counts, [4] * len(names), parts, 42)


def test_every_row_is_seen_before_one_is_seen_again() -> None:
    ours = draws([10, 7], ["a", "b"], draw_table([1, 3], 42, 40, 2))
    for dataset, count in enumerate([10, 7]):
        seen = [
            place
            for number, places in (ours[batch] for batch in range(len(ours)))
            if number == dataset
            for place in places
        ]
        turns = len(seen) // count
        assert turns > 1
        for turn in range(turns):
            assert sorted(seen[turn * count : (turn + 1) * count]) == list(range(count))
        assert seen[:count] != seen[count : 2 * count]


def test_micro_batches_share_a_draw_and_stand_alone() -> None:
    table = draw_table([1, 3], 42, 40, 2)
    whole, cut = draws([10, 7], ["a", "b"], table), draws([10, 7], ["a", "b"], table, parts=2)
    assert [cut[9], cut[8]] == [(whole[4][0], whole[4][1][2:]), (whole[4][0], whole[4][1][:2])]
    assert len(cut) == 2 * len(whole) == 160
    assert pickle.loads(pickle.dumps(cut))[9] == cut[9], "it goes to the processes that load"


def test_a_data_set_may_have_a_batch_of_its_own() -> None:
    ours = Draws(np.array([[0], [1], [0]]), ["a", "b"], [10, 7], [4, 2], 1, 42)
    assert [len(ours[batch][1]) for batch in range(3)] == [4, 2, 4]
    assert not set(ours[0][1]) & set(ours[2][1])


def test_a_small_data_set_fills_its_batches_by_turns() -> None:
    ours = Draws(np.array([[0], [0]]), ["a"], [3], [8], 1, 42)
    seen = ours[0][1] + ours[1][1]
    assert [sorted(seen[i : i + 3]) for i in range(0, 15, 3)] == [[0, 1, 2]] * 5


def test_another_data_set_changes_nothing_in_the_others() -> None:
    alone, beside = draws([10], ["a"], [[0], [0]]), draws([5, 10], ["new", "a"], [[1], [0], [1]])
    assert [alone[0][1], alone[1][1]] == [beside[0][1], beside[2][1]]


def test_draws_follow_the_ratios() -> None:
    table = draw_table([60, 130, 70], 42, 3000, 4)
    found = Counter(table.reshape(-1).tolist())
    assert [found[i] / 12000 for i in range(3)] == pytest.approx(probabilities([60, 130, 70]), abs=0.015)


MIXTURE = """
datasets:
  - {name: captions, schema: captions, data: cc.json, images: cc, sample_ratio: 60}   # a comment
  - {name: aokvqa, schema: aokvqa, data: a.json, images: /coco, format: QM-AE, sample_ratio: 130}
"""


def test_a_round_is_one_more_entry(tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(MIXTURE)
    before = read_mixture(str(tmp_path / "mix.yaml"))
    assert before.datasets[0].data == str(tmp_path / "cc.json")
    after = str(tmp_path / "elsewhere" / "mix.yaml")
    made = with_round(
        str(tmp_path / "mix.yaml"), "round1", str(tmp_path / "r.json"), "s3://bucket/coco", after, format="Q-A"
    )
    assert read_mixture(after) == made
    assert made.datasets[:2] == before.datasets
    told = yaml.safe_load(Path(after).read_text())["datasets"][2]
    assert told == {
        "name": "round1", "schema": "aokvqa", "data": str(tmp_path / "r.json"), "images": "s3://bucket/coco",
        "sqrt": True, "format": "Q-A",
    }  # fmt: skip
    assert made.datasets[2].ratio(4900) == 70.0
    assert made.datasets[0].ratio(4900) == 60.0
    with pytest.raises(VlfilterError, match="round1 stands there twice"):
        with_round(after, "round1", "r.json", "coco", after)
    assert read_mixture(after) == made, "what is refused is not written"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "Q-B"}, "m.yaml does not fit: some: the format of aokvqa rows is one of QM-A, Q-A"),
        ({"sqrt": True}, "some: give sample_ratio, or sqrt: true"),
        ({"sample_ratio": 0}, "some.sample_ratio: Input should be greater than 0"),
        ({"ratio": 3}, "some.ratio: Extra inputs"),
        ({"schema": "llava", "mode": "compat"}, "mode compat is for aokvqa, vqa,"),
        ({"schema": "coco"}, "some: schema is one of llava, aokvqa, captions, vqa, ocr_vqa"),
        ({"name": None}, "entry 1.name"),
    ],
)
def test_mistakes_in_an_entry_are_told_by_its_name(changed: dict[str, Any], message: str) -> None:
    told = {"name": "some", "schema": "aokvqa", "data": "d", "images": "i", "sample_ratio": 1}
    with pytest.raises(VlfilterError) as raised:
        parse_mixture({"datasets": [told | changed]}, "m.yaml")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not a YAML file"), ("[]", "does not fit: the file"), ("datasets: []", "datasets")],
)
def test_files_that_are_no_mixture(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(VlfilterError, match=message):
        read_mixture(str(tmp_path / "m.yaml"))
    with pytest.raises(VlfilterError, match=r"there is no mixture .*none\.yaml"):
        read_mixture(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("schema", ["llava", "aokvqa", "captions"])
def test_a_missing_file_is_named_with_its_data_set(tmp_path: Path, schema: str) -> None:
    with pytest.raises(VlfilterError, match=r"there is no file .*none\.json \(data set some\)"):
        read_dataset(entry(tmp_path, [], schema=schema, data=str(tmp_path / "none.json")), 42)
