"""The scripted teacher of the data engine's benchmark, and its loop in small."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import data_engine_digits as bench
from benchmarks.engine_even import spread
from benchmarks.engine_teacher import MISTAKES, attributes_of, script
from benchmarks.engine_world import BY_KEY, KINDS, WEAK, Sizes, make_row, make_world
from vlfilter.data.aokvqa import read_rows
from vlfilter.demo.captions import describe, random_attributes
from vlfilter.demo.seeds import stream
from vlfilter.methods.data_engine.classify_reply import classify_prompt, read_types
from vlfilter.methods.data_engine.image_info import read_coco
from vlfilter.methods.data_engine.postprocess_rows import process
from vlfilter.methods.data_engine.prompt import prompt_v1
from vlfilter.methods.data_engine.question_types import TYPE_KEYS

RNG = stream(0, "test")


def ask(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}]}


def test_the_script_says_what_is_true(tmp_path: Path) -> None:
    """A caption says all that its scene has; types are those of the wordings; nine answers in ten are right."""
    for _ in range(300):
        if (attributes := random_attributes(RNG)).background:
            assert attributes_of(describe(attributes, RNG)) == attributes
    world = make_world(tmp_path, Sizes(benchmark=3, pool=40, base=2, base_weak=1), 0)
    answer = script(world)
    rows, bad = read_rows(str(tmp_path / "val_typed.json"))
    assert (len(rows), bad) == (18, [])
    assert all(
        row.correct_choice == BY_KEY[str(row.question_type)].answer(world.seen[int(str(row.image_id))]) for row in rows
    )
    reply = answer(ask(classify_prompt([row.question for row in rows])))
    assert read_types(reply, len(rows)) == [row.question_type for row in rows]
    facts = read_coco(str(tmp_path / "captions.json"), str(tmp_path / "instances.json")).facts
    right = Counter[bool]()
    for image, known in facts.items():
        for kind in KINDS:
            found = process(answer(ask(prompt_v1(kind.key, known, rows[:2]))), "fixed")
            right[found.choices[found.correct] == kind.answer(world.seen[int(image)])] += 1
    assert 0.5 * MISTAKES < right[False] / right.total() < 2 * MISTAKES


def test_types_are_published_ones_and_the_even_share_is_even() -> None:
    assert set(BY_KEY) < set(TYPE_KEYS)
    attributes = next(found for found in iter(lambda: random_attributes(RNG), None) if found.background)
    rows = [make_row(kind, attributes, 0, "", RNG) for kind in KINDS for _ in range(5)]
    counts = Counter(row.question_type for row in spread(rows, 20))
    assert sorted(counts.values()) == [3, 3, 3, 3, 4, 4]
    with pytest.raises(SystemExit, match="too few"):
        spread(rows, 31)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_loop_mends_what_is_weak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "scripted")
    bench.make_models(tmp_path / "models", 400, 300)
    found = bench.run_seed(tmp_path / "run", tmp_path / "models", Sizes(benchmark=100, pool=300), 0, bench.STEPS, 30)
    first, last = found["engine"][0], found["engine"][-1]
    assert last["weak"] > first["weak"] + 5
    assert bench.share(found["rounds"][0]["engine"]) > 2 * bench.share(found["rounds"][0]["even"])
    for made in found["rounds"]:
        assert bench.share(made["engine"]) > bench.share(made["even"]) > 0
        assert sum(made["engine"].values()) == sum(made["even"].values())
    rates = found["rounds"][0]["weights"]
    assert set(WEAK) == set(sorted(rates, key=lambda kind: float(rates[kind]))[-2:])
