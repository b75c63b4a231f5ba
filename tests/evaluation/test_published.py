"""The published numbers as data, and a run beside them."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from vlfilter.evaluation.benchmarks import BENCHMARKS
from vlfilter.evaluation.plots import category_plot
from vlfilter.evaluation.published import comparison, published, published_categories
from vlfilter.evaluation.summary import category_rows, summary_line


def told(
    benchmark: str, *lines: tuple[str, str, float | None, float | None], rules: tuple[str, ...] = ("fixed", "compat")
) -> dict[str, Any]:
    scores = [
        {"measure": measure, "category": kind, "questions": 4, "answered": 3} | dict(zip(rules, values, strict=False))
        for measure, kind, *values in lines
    ]
    about = {
        "benchmark": benchmark,
        "title": benchmark.upper(),
        "model": "mine_$x$",
        "rules": list(rules),
        "single": None,
    }
    return about | {"scores": scores}


SEED = told("seed", ("accuracy", "", 60.0, 50.0), ("accuracy", "Scene Understanding", 100.0, 75.0),
            ("accuracy", "Text Understanding", 20.0, 25.0))  # fmt: skip


def test_the_published_table() -> None:
    models = published()["models"]
    assert len(models) == 6
    for model in models:
        assert set(model["scores"]) <= set(BENCHMARKS)
        assert all(0 < score < 100 for score in model["scores"].values())
        assert model["source"]
    base, last = models[0]["scores"], models[-1]["scores"]
    assert (base["seed"], base["vsr"], last["mmbench"], last["vizwiz"]) == (49.21, 61.37, 52.92, 54.39)
    for model in published_categories("seed"):
        assert len(model["scores"]) == 9


def test_a_run_beside_the_published_numbers() -> None:
    mmbench = told("mmbench", ("accuracy", "", 41.0, None), rules=("fixed",))
    lines = comparison([SEED, mmbench, told("aokvqa", ("multiple_choice", "", None, None))])
    assert len(lines) == 8
    assert lines[0]["seed"] == "49.21"
    assert lines[0]["aokvqa"] == "–"
    assert [(line["seed"], line["mmbench"], line["aokvqa"]) for line in lines[-2:]] == [
        ("50.00", "41.00", "–"), ("60.00", "41.00", "–")
    ]  # fmt: skip
    assert lines[-2]["model"] == "mine_$x$, scored as published"


def test_words_and_lines() -> None:
    assert summary_line(SEED) == "SEED: accuracy 60.00 %, 50.00 % as published (3 of 4 answered)"
    both = told("aokvqa", ("multiple_choice", "", 10.0, 20.0), ("direct_answer", "", None, None))
    assert summary_line(both | {"single": 5.0}) == (
        "AOKVQA: multiple choice 10.00 %, 20.00 % as published (3 of 4 answered); "
        "direct answer –, – as published (3 of 4 answered); each rotation for itself 5.00 %"
    )
    assert category_rows(SEED)[1] == {
        "measure": "accuracy", "category": "Scene Understanding", "questions": "4", "answered": "3",
        "accuracy": "100.00 %", "as published": "75.00 %",
    }  # fmt: skip


def size(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        return image.size


def test_a_picture_of_any_scores() -> None:
    few, unknown = size(category_plot(SEED)), size(category_plot(told("vsr", ("accuracy", "", None, None))))
    many = told("vsr", ("accuracy", "", 1.0, 1.0), *(("accuracy", f"left of {i}", float(i), 0.0) for i in range(99)))
    assert size(category_plot(many))[1] > few[1] > unknown[1]
