"""Parameters: the committed example, what follows from what, and one clear line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import make_shards
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.params import STEPS, MlmFilterParams, parse_params
from vlfilter.methods.mlm_filter.places import link_general_images
from vlfilter.methods.mlm_filter.preflight import check_inputs

ROOT = Path(__file__).parents[3]
GRADE = {"teacher": "openai:gpt-4o"}


def parse(**fields: Any) -> MlmFilterParams:
    return parse_params({"output": "out", **fields}, "test")


def test_the_committed_example_describes_every_step() -> None:
    params = parse_params(yaml.safe_load((ROOT / "deployments" / "mlm_filter.yaml").read_text()), "example")
    assert all(getattr(params, name) is not None for name in STEPS)
    assert params.version == 2
    training, scoring = params.training(), params.scoring()
    assert training is not None
    assert scoring is not None
    assert (training.processes, training.template, training.output) == (8, "qwen_instruct", "mlm-filter/finetune")
    assert scoring.model == {"mlm_filter": "mlm-filter/finetune/model"}
    assert parse_params(params.model_dump(), "again") == params


def test_the_question_is_that_of_the_model_that_will_be_taught() -> None:
    vicuna = {"preset": "mlm_filter_13b"}
    assert parse(grade=GRADE).version == 2
    assert parse(grade=GRADE, finetune=vicuna).version == 1
    assert parse(grade={**GRADE, "prompt_version": 2}, finetune=vicuna).version == 2


def test_a_model_is_asked_as_it_was_taught() -> None:
    score = {"shards": "data", "options": {"image_mode": "processor"}}
    taught = parse(grade=GRADE, finetune={"preset": "mlm_filter_13b"}, score=score).scoring()
    plain = parse(finetune={"preset": "mlm_filter_13b"}, score={"shards": "data"}).scoring()
    elsewhere = parse(score={"shards": "data", "model": "owner/model"}).scoring()
    assert taught is not None
    assert plain is not None
    assert elsewhere is not None
    assert plain.options["mlm_filter"]["image_mode"] == "pad"
    assert taught.options["mlm_filter"] == {
        "metric": "all", "template": "vicuna_v1", "image_mode": "processor", "space": "trained", "prompt": "1",
    }  # fmt: skip
    assert elsewhere.options["mlm_filter"] == {"metric": "all"}
    assert elsewhere.model == {"mlm_filter": "owner/model"}


def test_files_from_elsewhere_take_the_place_of_the_usual_ones() -> None:
    places = parse(
        grade={**GRADE, "pairs": "my/pairs.json", "images": "my/images"},
        balance={"grades": "g.parquet"},
        mix={"balanced": "b.parquet", "output": "i.json"},
        finetune={"preset": "mlm_filter_13b", "output": "run"},
        select={"recipe": "su85", "scores": "tables"},
    ).places
    assert (places.pairs, places.images, places.training_images) == ("my/pairs.json", "my/images", "my/images")
    assert (places.grades, places.balanced, places.instructions) == ("g.parquet", "b.parquet", "i.json")
    assert (places.training, places.model, places.scores) == ("run", "run/model", "tables")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "test does not hold the parameters"),
        ({}, "test: output: Field required"),
        ({"output": "o"}, "no step is given: sample, grade"),
        ({"output": "o", "grade": {}}, "test: grade.teacher: Field required"),
        ({"output": "o", "grade": {**GRADE, "metric": "beauty"}}, "test: grade.metric: MLM-Filter has no metric"),
        ({"output": "o", "grade": {**GRADE, "view": "caption"}}, "needs `descriptions`"),
        ({"output": "o", "grade": {**GRADE, "descriptions": "d.json"}}, "are for the view `caption`"),
        ({"output": "o", "balance": {"per_metrik": 1}}, "test: balance.per_metrik: Extra inputs"),
        ({"output": "o", "finetune": {"preset": "x"}}, "no recipe is called 'x'"),
        ({"output": "o", "finetune": {"preset": "mlm_filter_13b", "settings": {"epoch": 1}}}, "epoch: Extra inputs"),
        ({"output": "o", "score": {"shards": "d", "metric": "x"}}, "MLM-Filter has no metric 'x'"),
        ({"output": "o", "score": {"shards": "d", "options": {"spaec": "x"}}}, "mlm_filter has no option spaec"),
        ({"output": "o", "select": {}}, "give either recipe or where"),
        ({"output": "o", "select": {"recipe": "su85", "where": "x > 1"}}, "give either recipe or where"),
        ({"output": "o", "select": {"recipe": "su"}}, "no recipe is called 'su'"),
        ({"output": "s3://b/o", "finetune": {"preset": "mlm_filter_13b"}}, "output must be a local folder"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(fields: Any, message: str) -> None:
    with pytest.raises(VlfilterError) as error:
        parse_params(fields, "test")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample": {"shards": "nowhere.tar"}}, "nowhere.tar"),
        ({"score": {"shards": "nowhere.tar", "model": "m"}}, "nowhere.tar"),
        ({"grade": {"teacher": "gpt-4o"}}, "names no judge"),
        ({"grade": {"teacher": "openai:unknown-model", "max_usd": 1}}, "the price of 'unknown-model' is not known"),
        ({"grade": {**GRADE, "base_url": "localhost"}}, "base URL"),
        ({"grade": {**GRADE, "view": "caption", "descriptions": "nowhere.json"}}, "there is no file nowhere.json"),
        ({"mix": {"data": "nowhere.json"}}, "there is no file nowhere.json to mix in"),
        ({"mix": {"images": "nowhere"}}, "there is no folder nowhere"),
        ({"finetune": {"preset": "mlm_filter_13b", "data": "nowhere.json"}}, "there is no file nowhere.json"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_paid_for(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(VlfilterError, match=message):
        check_inputs(parse_params({"output": str(tmp_path / "out"), **fields}, "test"))


def test_what_is_there_passes(tmp_path: Path) -> None:
    make_shards(tmp_path / "data", 1, 1)
    check_inputs(parse_params({"output": str(tmp_path / "out"), "sample": {"shards": str(tmp_path / "data")}}, "test"))


def test_images_to_mix_in_are_linked_not_copied(tmp_path: Path) -> None:
    for name in ("coco", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_text(name)
    images = str(tmp_path / "out" / "images")
    assert link_general_images(images, None) == ""
    for name in ("coco", "coco", "other"):
        assert link_general_images(images, str(tmp_path / name)) == "general"
        assert (tmp_path / "out" / "images" / "general" / "1.jpg").read_text() == name
    (tmp_path / "out" / "images" / "general").unlink()
    (tmp_path / "out" / "images" / "general").mkdir()
    with pytest.raises(VlfilterError, match="exists and is no link"):
        link_general_images(images, str(tmp_path / "coco"))
    with pytest.raises(VlfilterError, match="local folder"):
        link_general_images("s3://bucket/images", str(tmp_path / "coco"))
