"""Queries: the original's draws repeated, our own that always end, and the step from files to files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import jpeg
from tests.methods.data_engine.query_parts import STEP2, load, published, row, write_inputs
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.anchors import Around, anchor_files, anchor_name, anchor_vectors, neighbours
from vlfilter.methods.data_engine.image_info import Box, FactBook, ImageFacts
from vlfilter.methods.data_engine.queries import Drawn, draw_queries, replay_queries
from vlfilter.methods.data_engine.query import (
    QueryInputs,
    QuerySettings,
    build_queries,
    prompt_of,
    read_cases,
)
from vlfilter.methods.data_engine.sampling import plan_types
from vlfilter.retrieval.embed import EmbedSettings
from vlfilter.retrieval.index import ImageIndex, index_of

WEIGHTS = load("inputs.json")["weights"]


def test_the_originals_draws_are_repeated(tmp_path: Path) -> None:
    cases, index, book, around = published(tmp_path)
    drawn = replay_queries(cases, WEIGHTS, index, book, around, wanted=16, seed=1234)
    compat = QuerySettings(compat=True, seed=1234)
    ours = [
        {"image_id": q.image, "prompt": prompt_of(q, book.facts[q.image], compat), "question_type": q.question_type}
        for q in drawn.queries
    ]
    assert ours == load("expected_gptvqa_prompt.json")
    assert drawn.ended is None
    other = replay_queries(cases, WEIGHTS, index, book, around, wanted=16, seed=1235)
    assert [q.image for q in other.queries] != [q.image for q in drawn.queries]


def test_the_replay_ends_where_the_original_would_not(tmp_path: Path) -> None:
    cases, index, book, around = published(tmp_path)
    drawn = replay_queries(cases, WEIGHTS, index, book, around, wanted=400, seed=1)
    assert drawn.ended
    assert "no image is left to draw" in drawn.ended
    assert len({q.image for q in drawn.queries}) == len(drawn.queries) <= 38
    with pytest.raises(VlfilterError, match="no question type"):
        replay_queries(
            cases, {**dict.fromkeys(cases, 0.0), "image_quality": 1.0}, index, book, around, wanted=1, seed=1
        )
    with pytest.raises(VlfilterError, match="no weight for image_emotion"):
        replay_queries(cases, {k: 1.0 for k in cases if k != "image_emotion"}, index, book, around, wanted=1, seed=1)


def ours(tmp_path: Path, wanted: int = 16, seed: int = 0, **more: Any) -> tuple[Drawn, ImageIndex, Around]:
    cases, index, book, around = published(tmp_path)
    plan = plan_types(cases, WEIGHTS, 2)
    drawn = draw_queries(cases, plan, index, book, around, wanted=wanted, examples=2, seed=seed, **more)
    return drawn, index, around


def test_our_draws_keep_the_rules(tmp_path: Path) -> None:
    drawn, index, around = ours(tmp_path)
    assert len(drawn.queries) == 16
    assert {q.question_type for q in drawn.queries} <= {
        "spatial_relationship",
        "knowledge-based_reasoning",
        "future_prediction",
    }
    assert len({q.image for q in drawn.queries}) == 16
    assert not {5009, 5012} & {q.image for q in drawn.queries}
    assert drawn.images["more than 10 boxes"] == 2
    for number, query in enumerate(drawn.queries):
        assert len({r.question_id for r in query.examples}) == 2
        assert all(r.question_type == query.question_type for r in query.examples)
        if query.how == "retrieval":
            near = around[anchor_name(query.examples[0])]
            assert not isinstance(near, str)
            place = [index.ids[i] for i in near.rows].index(query.image)
            assert query.cosine == near.cosine[place]
        assert query.how == ("uniform" if number % 2 or query.reason else "retrieval")
    again, _, _ = ours(tmp_path)
    assert again == drawn
    assert ours(tmp_path, seed=1)[0] != drawn
    assert ours(tmp_path, wanted=9)[0].queries == drawn.queries[:9]


def test_the_draw_ends_with_the_images_and_says_why(tmp_path: Path) -> None:
    drawn, index, _ = ours(tmp_path, wanted=6000)
    assert len(drawn.queries) == 38
    assert drawn.ended == (
        "38 of 6000 queries: no usable image is left (2 more than 10 boxes, 38 usable, "
        f"{drawn.images.get('usable, without boxes')} usable, without boxes, "
        f"{drawn.images.get('usable, without captions')} usable, without captions)"
    )
    late = [q for q in drawn.queries if q.reason]
    assert late
    assert all(q.reason == "all 12 images near the anchor are used or unusable" for q in late)
    excluded = set(index.ids[:30])
    rest, _, _ = ours(tmp_path, wanted=6000, excluded=excluded)
    assert not excluded & {q.image for q in rest.queries}
    assert rest.images["excluded"] == 30


def test_types_come_in_the_weights_proportion() -> None:
    cases = {kind: [row(i, kind) for i in range(4)] for kind in ("a", "b", "c")}
    facts = FactBook({i: ImageFacts(("x",)) for i in range(3000)})
    index = index_of(range(3000), np.random.default_rng(0).normal(size=(3000, 4)))
    plan = plan_types(cases, {"a": 0.6, "b": 0.3, "c": 0.1}, 2)
    drawn = draw_queries(cases, plan, index, facts, None, wanted=2000, examples=2, seed=3)
    made = Counter(q.question_type for q in drawn.queries)
    assert made["a"] / 2000 == pytest.approx(0.6, abs=0.04)
    assert made["c"] / 2000 == pytest.approx(0.1, abs=0.025)
    shown = Counter(r.question_id for q in drawn.queries for r in q.examples)
    assert min(shown.values()) > 800  # of 1,000 expected each
    assert len({q.image for q in drawn.queries}) == 2000


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 25),
    wanted=st.integers(1, 40),
    topk=st.integers(1, 30),
    boxes=st.lists(st.integers(0, 12), min_size=25, max_size=25),
    known=st.sets(st.integers(0, 24)),
    broken=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 5),
)
def test_every_draw_ends_and_reconciles(
    images: int, wanted: int, topk: int, boxes: list[int], known: set[int], broken: set[int], seed: int
) -> None:
    index = index_of(range(images), np.random.default_rng(seed).normal(size=(images, 3)))
    cases = {"a": [row(i, "a") for i in range(3)], "b": [row(3, "b")]}
    book = FactBook({i: ImageFacts(("c",), (Box("cat", 0, 0, 1, 1),) * boxes[i]) for i in known})
    vectors = {anchor_name(r): index.vectors[i % images] for i, r in enumerate([*cases["a"], *cases["b"]])}
    around = neighbours(vectors, index, topk)
    around |= {anchor_name(r): "broken" for i, r in enumerate(cases["a"]) if i in broken}
    plan = plan_types(cases, None, 2)
    drawn = draw_queries(cases, plan, index, book, around, wanted=wanted, examples=2, seed=seed)
    usable = {i for i in known if i < images and boxes[i] <= 10}
    assert len(drawn.queries) == min(wanted, len(usable))
    assert {q.image for q in drawn.queries} <= usable
    assert len({q.image for q in drawn.queries}) == len(drawn.queries)
    assert (drawn.ended is None) == (wanted <= len(usable))
    counted = sum(n for why, n in drawn.images.items() if not why.startswith("usable, "))
    assert counted == images
    replay = replay_queries(cases, None, index, book, around, wanted=wanted, seed=seed)
    assert {q.image for q in replay.queries} <= usable
    assert (replay.ended is None) == (len(replay.queries) == wanted)


# -- the step: files in, files out ------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path: Path) -> QueryInputs:
    """The published inputs, with the index as a folder that holds the anchors too (they need no CLIP then)."""
    import torch

    paths = write_inputs(tmp_path)
    with np.load(STEP2 / "embeddings.npz") as file:
        ids = [*file["image_ids"].tolist(), *file["anchor_image_ids"].tolist()]
        vectors = np.concatenate([file["image_embeds"], file["anchor_features"]])
    tensors = {image: torch.from_numpy(vector[None].copy()) for image, vector in zip(ids, vectors, strict=True)}
    torch.save(tensors, tmp_path / "coco_image.pth")
    return QueryInputs(
        paths["bad_cases"], str(tmp_path / "coco_image.pth"), paths["weights"], paths["captions"], paths["instances"]
    )


SETTINGS = QuerySettings(maxnum=16, topk=12, seed=7)


def test_files_and_counts(inputs: QueryInputs, tmp_path: Path) -> None:
    output = tmp_path / "round_1" / "gptvqa_prompt.json"
    told = build_queries(inputs, str(output), SETTINGS)
    rows = json.loads(output.read_text())
    assert [list(r) for r in rows] == [["image_id", "prompt", "question_type"]] * 16
    assert all(type(r["image_id"]) is int for r in rows)
    table = pq.read_table(output.with_suffix(".parquet")).to_pylist()
    assert [r["image_id"] for r in table] == [str(r["image_id"]) for r in rows]
    assert {r["how"] for r in table} == {"retrieval", "uniform"}
    assert all(len(r["in_context"]) == 2 and r["status"] == "ok" for r in table)
    assert all((r["cosine"] is None) == (r["how"] == "uniform") for r in table)
    assert told["queries"] == told["wanted"] == 16
    by_type = {entry["type"]: entry for entry in told["types"]}
    assert set(by_type) == set(WEIGHTS)  # none is lost
    assert sum(entry["queries"] for entry in by_type.values()) == 16
    assert by_type["image_quality"]["why"].startswith("1 bad cases")
    assert by_type["image_quality"]["share"] == round(1 / sum(WEIGHTS.values()), 4)
    assert told["images"]["not in the annotations"] == 8  # the anchors: COCO's training files do not list them
    before = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    stamp = output.stat().st_mtime_ns
    assert build_queries(inputs, str(output), SETTINGS) == told
    assert output.stat().st_mtime_ns == stamp
    for path in output.parent.iterdir():
        path.unlink()
    build_queries(inputs, str(output), SETTINGS)
    assert {path.name: path.read_bytes() for path in output.parent.iterdir()} == before
    build_queries(inputs, str(output), replace(SETTINGS, seed=8))
    assert output.read_bytes() != before["gptvqa_prompt.json"]


def test_earlier_rounds_images_are_not_taken_again(inputs: QueryInputs, tmp_path: Path) -> None:
    first, second = tmp_path / "1" / "gptvqa_prompt.json", tmp_path / "2" / "gptvqa_prompt.json"
    build_queries(inputs, str(first), SETTINGS)
    told = build_queries(replace(inputs, exclude=(str(first),)), str(second), SETTINGS)
    used = [{r["image_id"] for r in json.loads(path.read_text())} for path in (first, second)]
    assert not used[0] & used[1]
    assert told["images"]["excluded"] == 16


def test_version_2(inputs: QueryInputs, tmp_path: Path) -> None:
    pool = {
        "image_scene": [r for i in range(12) for r in [{**_json(i), "question": f"Where was photo number {i} taken?"}]],
        "image_style": [{**_json(20 + i), "question": "What style is it?"} for i in range(12)],
    }
    (tmp_path / "bad_cases.json").write_text(json.dumps(pool))
    (tmp_path / "weights.json").write_text('{"image_scene": 0.25, "image_style": 0.25}')
    output = tmp_path / "gptvqa_prompt.json"
    told = build_queries(inputs, str(output), replace(SETTINGS, version="v2", examples=1, maxnum=5))
    assert told["how"] == {"uniform": 5}
    bad = {entry["type"]: entry["bad_cases"] for entry in told["types"]}
    assert bad["image_style"] == 1  # twelve times the same question
    assert json.loads(output.read_text())[0]["prompt"].startswith("Your task is to use the provided information")
    ten = build_queries(inputs, str(output), replace(SETTINGS, version="v2", maxnum=5))
    why = {entry["type"]: entry["why"] for entry in ten["types"]}
    assert why["image_style"] == "1 bad cases, and 10 are shown in a query"
    with pytest.raises(VlfilterError, match="two bad cases"):
        QuerySettings(examples=3)
    with pytest.raises(VlfilterError, match="which are v1"):
        QuerySettings(version="v2", compat=True)


def _json(number: int) -> dict[str, Any]:
    return {"image_id": number, "idx": f"q{number}", "question": "?", "choices": list("abcd"), "correct_choice_idx": 0}


def test_bad_input_is_counted(inputs: QueryInputs, tmp_path: Path) -> None:
    pool = load("inputs.json")["bad_case_pool"]
    pool["spatial_relationship"] += [{"idx": "no question"}, _json(1) | {"correct_choice_idx": 9}, _json(77)]
    (tmp_path / "bad_cases.json").write_text(json.dumps(pool))
    told = build_queries(inputs, str(tmp_path / "out.json"), SETTINGS)
    assert len(told["bad_cases_skipped"]) == 2
    cases, bad = read_cases(inputs.bad_cases)
    assert len(bad) == 2
    assert cases["image_emotion"] == []
    # image 77 is in no index and there is no folder to find it in: such queries take any image and say why
    assert told["anchors_missing"] == ["000000000077.jpg"]
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert sum(1 for r in table if r["reason"]) == told["without_neighbour"]


@pytest.mark.parametrize(
    ("text", "why"), [("{}", "no bad cases at all"), ('{"a": []}', "0 bad cases"), ("3", "neither a JSON list")]
)
def test_no_bad_cases(inputs: QueryInputs, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "bad_cases.json").write_text(text)
    with pytest.raises(VlfilterError, match=why):
        build_queries(replace(inputs, weights=None), str(tmp_path / "out.json"), SETTINGS)
    assert not (tmp_path / "out.json").exists()


def test_no_image_is_in_the_annotations(inputs: QueryInputs, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"annotations": [{"image_id": 1, "caption": "another set"}]}')
    with pytest.raises(VlfilterError, match=r"no usable image is left \(48 not in the annotations\)"):
        build_queries(
            replace(inputs, captions=str(tmp_path / "c.json"), instances=None), str(tmp_path / "o.json"), SETTINGS
        )


def test_anchors_are_embedded_from_their_files(tmp_path: Path) -> None:
    import torch

    from vlfilter.models.clip import save_clip
    from vlfilter.models.clip_text import openai_tokenizer
    from vlfilter.models.presets import build_clip, clip_images
    from vlfilter.retrieval.sources import folder_images
    from vlfilter.retrieval.store import build_index, open_index

    tokenizer = openai_tokenizer()
    torch.manual_seed(0)
    save_clip(tmp_path / "clip", build_clip("clip_micro", tokenizer), tokenizer, clip_images("clip_micro"))
    embed = EmbedSettings(str(tmp_path / "clip"), device="cpu")
    for folder, numbers in (("train", range(6)), ("val2017", (3, 4))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            (tmp_path / folder / f"{number + 100 * (folder != 'train'):012d}.jpg").write_bytes(jpeg(number, (60, 50)))
    (tmp_path / "val2017" / "000000000105.jpg").write_bytes(b"no image")
    build_index(folder_images(str(tmp_path / "train")), str(tmp_path / "index"), embed)
    index = open_index(str(tmp_path / "index"))
    rows = [replace(row(100 + i), image_path=f"val2017/{100 + i:012d}.jpg") for i in (3, 4, 5, 6)]
    files = anchor_files(rows, str(tmp_path))
    assert [found is not None for found in files.values()] == [True, True, True, False]
    around = neighbours(anchor_vectors(rows, index, files, embed), index, 2)
    for number, r in ((3, rows[0]), (4, rows[1])):
        near = around[anchor_name(r)]
        assert not isinstance(near, str)
        assert index.ids[near.rows[0]] == number  # the same picture under another id
        assert near.cosine[0] == pytest.approx(1, abs=1e-5)
    assert "begins with" in str(around[anchor_name(rows[2])])
    assert around[anchor_name(rows[3])] == "there is no image val2017/000000000106.jpg"
    assert next(iter(anchor_files([row(103)], str(tmp_path / "val2017")).values())) is not None


def test_a_changed_input_or_a_missing_table_is_noticed(inputs: QueryInputs, tmp_path: Path) -> None:
    output = tmp_path / "gptvqa_prompt.json"
    build_queries(inputs, str(output), SETTINGS)
    first = output.read_bytes()
    table = output.with_suffix(".parquet")
    table.unlink()
    build_queries(inputs, str(output), SETTINGS)
    assert table.is_file()
    for name, old, new in (
        ("captions", "Caption 0 of", "Picture 0 of"),
        ("weights", "0.302", "0.0"),
        ("bad_cases", "What about", "What of"),
    ):
        path = Path(getattr(inputs, name))
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        told = build_queries(inputs, str(output), SETTINGS)
        assert output.read_bytes() != first
        first = output.read_bytes()
    assert "spatial_relationship" in {entry["type"] for entry in told["types"] if entry["why"] == "its weight is 0"}
