from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.selection.tables import schema, write_scorer
from vlfilter.data.scores import Scores
from vlfilter.errors import VlfilterError
from vlfilter.selection import rules

NAN = float("nan")
CLIP = [0.1, 0.2, 0.3, None, 0.5, NAN]
QUALITY = [5, 4, None, 2, 1, 0]
STATUS = ["ok", "ok", "ok", "corrupt_image", "ok", "failed"]


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    root = str(tmp_path)
    write_scorer(root, "clip", "a", {"clip_score": CLIP}, schema(clip_score=pa.float32()), status=STATUS)
    write_scorer(
        root,
        "judge",
        "a",
        {"quality": QUALITY, "label": ["x", "y", None, "x", "y", "x"], "flag": [True, False, None, True, True, False]},
        schema(quality=pa.int16(), label=pa.string(), flag=pa.bool_()),
    )
    return Scores.open(root)


def kept(scores: Scores, where: str) -> list[int]:
    rule = rules.bind(where, scores)
    table = scores.read("a", rule.columns)
    return np.flatnonzero(rules.judge(rule, rules.find_thresholds(rule, scores), scores, "a", table).kept).tolist()


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("clip_score >= 0.2", [1, 2, 4]),  # NaN and null are never kept
        ("not clip_score >= 0.2", [0]),  # … nor by `not`
        ("clip_score <= 0.3", [0, 1, 2]),  # the literal is rounded to float32 as the score was
        ("clip_score == 0.3", [2]),
        ("0.1 < clip_score <= 0.3", [1, 2]),
        ("clip.clip_score != 0.3", [0, 1, 4]),
        ("quality >= 2 and clip_score >= 0.2", [1]),
        ("quality >= 5 or clip_score >= 0.5", [0, 4]),
        ("quality >= 2 or clip_score >= 0.2", [0, 1, 4]),  # row 2 has no quality, row 3 no clip_score
        ("quality >= 2", [0, 1, 3]),
        ("isnull(clip_score)", [3, 5]),
        ("isnull(clip_score) or clip_score >= 0.5", [3, 4, 5]),
        ("not isnull(quality) and quality < 2", [4, 5]),
        ('label == "x"', [0, 3, 5]),
        ('label != "x"', [1, 4]),
        ("isnull(label) or label == 'y'", [1, 2, 4]),
        ('clip.status == "ok" and judge.status == clip.status', [0, 1, 2, 4]),
        ("flag == 1", [0, 3, 4]),
        ("clip_score * 10 + quality > 5.9", [0, 1, 4]),
        ("quality / quality >= 1", [0, 1, 3, 4]),  # 0/0 is no number
        ("quality / 0 > 1e300", [0, 1, 3, 4]),
        ("-quality > -2", [4, 5]),
        ("quality - 1 - 1 == 0", [3]),
        ("clip_score >= top(50%)", [2, 4]),
        ("clip_score < top(50%)", [0, 1]),
        ("clip_score <= bottom(1)", [0]),
        ("clip_score > bottom(1)", [1, 2, 4]),
        ("top(2) <= quality", [0, 1]),
        ("quality >= top(2) and clip_score >= top(3)", [1]),
        ("quality + 100*clip_score >= top(1)", [4]),
        ("quality >= top(100%)", [0, 1, 3, 4, 5]),
        ("quality >= top(0%)", []),
        ("quality >= top(99)", [0, 1, 3, 4, 5]),
        ("quality > 99999999999999999999", []),
        ("quality < 1e999", [0, 1, 3, 4, 5]),
    ],
)
def test_verdict(scores: Scores, where: str, rows: list[int]) -> None:
    assert kept(scores, where) == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("quality", "not a condition"),
        ("missing > 1", "no column 'missing'.*There are: .*clip_score"),
        ("status == 'ok'", "ambiguous: write clip.status or judge.status"),
        ("label > 'a'", "only be compared with == and !="),
        ("label == 1", "cannot compare a text with a number"),
        ("quality > top(3%)", "quality >= top|column >= top"),
        ("quality >= bottom(3%)", "column <= bottom"),
        ("label >= top(3%)", "takes a number"),
        ("3 >= top(3%)", "needs a column"),
        ("top(3%) >= top(3%)", "takes a number"),
        ("(quality > 1) + 1 > 2", "takes a number, this is a condition"),
        ("not quality", "takes a condition"),
        ("quality > 1 and label", "takes a condition"),
        ("1 < 2", "uses no column"),
        ("isnull(nothing)", "no column"),
    ],
)
def test_mistakes_are_told(scores: Scores, where: str, message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        rules.bind(where, scores)


def test_where_or_top_and_by(scores: Scores) -> None:
    assert rules.make_rule(scores, top="30%", by="clip.clip_score").text == "clip.clip_score >= top(30%)"
    for arguments in ({}, {"top": "3%"}, {"by": "quality"}, {"where": "quality > 1", "top": "3%", "by": "quality"}):
        with pytest.raises(VlfilterError, match="--where"):
            rules.make_rule(scores, **arguments)
    with pytest.raises(VlfilterError, match="percentage"):
        rules.make_rule(scores, top="0.3", by="quality")


def test_a_float32_literal_is_what_numpy_compares(scores: Scores) -> None:
    column = scores.read("a", ["clip_score"])["clip_score"].to_numpy()
    with np.errstate(invalid="ignore"):
        assert kept(scores, "clip_score >= 0.3") == np.flatnonzero(column >= 0.3).tolist()


def test_only_the_scorers_that_a_rule_uses_must_be_complete(tmp_path: Path) -> None:
    for shard in ("a", "b"):
        write_scorer(str(tmp_path), "clip", shard, {"clip_score": [1.0]}, schema(clip_score=pa.float32()))
    write_scorer(str(tmp_path), "judge", "a", {"quality": [1]}, schema(quality=pa.int16()))
    scores = Scores.open(str(tmp_path))
    rules.bind("clip_score > 1", scores)
    with pytest.raises(VlfilterError, match=r"1 of 2 shards have no judge table \(b\)"):
        rules.bind("clip_score > 1 and quality > 1", scores)


def test_tables_of_two_versions_of_a_tar_are_not_joined(tmp_path: Path) -> None:
    from vlfilter.data.shards import Shard

    for scorer, version in (("clip", "1"), ("judge", "2")):
        shard = Shard("a", "/data/a.tar", 1, version)
        write_scorer(str(tmp_path), scorer, shard, {scorer: [1.0]}, schema(**{scorer: pa.float32()}))
    with pytest.raises(VlfilterError, match="different versions of the tar"):
        kept(Scores.open(str(tmp_path)), "clip > 0 and judge > 0")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    for shard in ("a", "b"):
        write_scorer(str(tmp_path), "clip", shard, {"x": [1.0]}, schema(x=pa.float32()))
    table = tmp_path / "clip" / "b.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    scores = Scores.open(str(tmp_path))
    with pytest.raises(VlfilterError, match=r"b\.parquet cannot be read"):
        rules.find_thresholds(rules.bind("x >= top(1)", scores), scores)
