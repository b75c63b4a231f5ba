"""The published mixtures: their numbers, and all of their data sets read in their published form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.methods.data_engine.fixtures import copied
from tests.methods.minigpt_v2.world import make_world
from vlfilter.data.schemas.engine import DIRECTLY
from vlfilter.errors import VlfilterError
from vlfilter.methods.minigpt_v2.mixtures import PUBLISHED, open_mixture, place_mixture
from vlfilter.training.mixture import read_mixture
from vlfilter.training.mixture_check import look_at
from vlfilter.training.mixture_rows import read_dataset
from vlfilter.training.settings import train_settings

KEYS = {"minigpt_v2_dataengine": "v2_dataengine", "minigpt_v2_baseline": "v2_baseline"}
TEXT_ONLY = "unnatural_instruction"


@pytest.mark.parametrize("name", PUBLISHED)
def test_ratios_and_batches_are_the_published_ones(name: str) -> None:
    published = copied("train_mixtures.json")[KEYS[name]]
    ours = open_mixture(name, "train_dataset").datasets
    told = [(row["dataset"], row["sample_ratio"], row["batch_size"]) for row in published["rows"]]
    assert [(entry.name, entry.sample_ratio, entry.batch_size) for entry in ours] == told
    assert sum(entry.sample_ratio or 0 for entry in ours) == published["total_ratio"]
    assert {entry.mode for entry in ours} == {"compat"}


def test_the_recipe_draws_the_published_batches() -> None:
    """Eight GPUs, each of which takes a batch of one data set, of at most what it handles at once."""
    settings = train_settings({"mixture": "m.yaml", "output": "o"}, "minigpt_v2_dataengine")
    largest = max(entry.batch_size or 0 for entry in open_mixture(PUBLISHED[0], "x").datasets)
    assert settings.batch_size // settings.draws == settings.per_device_batch == largest == 6


def test_every_data_set_is_read_in_its_published_form(tmp_path: Path) -> None:
    mixture = open_mixture("minigpt_v2_dataengine", str(make_world(tmp_path)))
    states = {state.name: state for state in look_at(mixture, seed=42)}
    assert {name: state.problems for name, state in states.items()} == dict.fromkeys(states, ())
    assert len(states) == 25
    assert all(len(state.looks) >= 3 for state in states.values())
    rows = {name: (state.rows, dict(state.filtered)) for name, state in states.items()}
    assert rows["engine_da"] == (5, {})
    assert rows["engine_mc"] == rows["engine_mcp"] == (4, {"it has no options": 1})
    assert rows["coco_vqa"] == (4, {"its image's path has no 'train2014'": 4})
    assert rows["coco_caption"] == (4, {"its image's path has no 'train'": 4})
    assert rows["refvg"] == (8, {"its region has 16384 square pixels or more": 4})
    assert rows["refcocog"] == rows["invrefcoco"] == (3, {"it is of split val, not train": 1})
    assert rows["ocrvqa"] == (6, {"it is of split 3, not 1": 2})


def test_rows_are_worded_as_published(tmp_path: Path) -> None:
    mixture = open_mixture("minigpt_v2_dataengine", str(make_world(tmp_path)))
    rows = {entry.name: read_dataset(entry, 42).rows for entry in mixture.datasets}
    pairs = {name: [(q.removeprefix("<image>\n"), a) for q, a in found[1].pairs] for name, found in rows.items()}
    last = f"A. Top right\nB. Bottom right\nC. None\nD. Left middle\n{DIRECTLY}"
    assert pairs["engine_da"] == [("[vqa] where is number 1?", "it is at the bottom right")]
    assert pairs["engine_mc"] == [(f"[vqa] Where is number 1?\n{last}", "b")]
    assert pairs["llava_conversation"] == [("What is it?", "It is a Cat."), ("Why?", "It purrs.")]
    assert pairs["llava_detail"] == [("what is it?", "It is a Cat.")]
    assert pairs[TEXT_ONLY] == [("count to three use words", "one, two, three")]
    assert pairs["flickr_CaptionToPhrase"] == [("[detection] A man.", "<p>A man</p> {<10><20><30><40>}")]
    assert pairs["flickr_ObjectToPhrase"] == [("[detection] a man", "<p>a man</p> {<10><20><30><40>}")]
    assert pairs["coco_caption"][0][1] == "a cat on a mat"
    assert pairs["refcoco"][0][1] == "{<1><4><17><14>}"
    assert pairs["invrefcoco"][0][1] in ("the left one", "the red one")
    assert "{<1><4><17><14>}" in pairs["invrefcoco"][0][0]
    assert pairs["coco_vqa"][0][1] in ("a dog", "dog")
    tags = {name: found[0][0].split(" ")[0] for name, found in pairs.items() if found[0][0].startswith("[")}
    assert {tag: sum(tags[name] == tag for name in tags) for tag in set(tags.values())} == {
        "[vqa]": 8, "[caption]": 2, "[refer]": 4, "[identify]": 3, "[grounding]": 1, "[detection]": 2,
    }  # fmt: skip
    assert {name for name, found in rows.items() if all(row.image is None for row in found)} == {TEXT_ONLY}
    assert all("<image>" in row.pairs[0][0] for name, found in rows.items() for row in found if name != TEXT_ONLY)


def test_a_published_mixture_becomes_a_file_of_ones_own(tmp_path: Path) -> None:
    placed = place_mixture("minigpt_v2_baseline", str(tmp_path / "data"), str(tmp_path / "mine" / "mixture.yaml"))
    assert read_mixture(str(tmp_path / "mine" / "mixture.yaml")).datasets == placed.datasets
    assert placed.datasets[3].files[1] == f"{tmp_path}/data/vg/image_data.json"
    with pytest.raises(VlfilterError, match="minigpt_v2_baseline is a published mixture: say which folder"):
        open_mixture("minigpt_v2_baseline")
