from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.selection.tables import keys_of, schema, uid, write_scorer
from vlfilter.errors import VlfilterError
from vlfilter.report.explain import Explanation, Rank, explain
from vlfilter.selection.select import select

CLIP: dict[str, list[float | None]] = {"a": [0.1, 0.4, 0.4], "b": [0.2, None, 0.3]}
QUALITY: dict[str, list[int | None]] = {"a": [1, 2, 3], "b": [4, None, 5]}
WHERE = "quality >= 2 and (clip_score >= top(40%) or not clip_score * 10 > 2.5)"


@pytest.fixture
def scores(tmp_path: Path) -> str:
    root = str(tmp_path / "scores")
    for shard in "ab":
        broken = shard == "b"
        status = ["ok", "corrupt_image" if broken else "ok", "ok"]
        reason = [None, "cut \x1b[31mshort" if broken else None, None]
        write_scorer(
            root, "clip", shard, {"clip_score": CLIP[shard]}, schema(clip_score=pa.float32()), status=status,
            reason=reason, parts={"model": "ViT-tiny", "dtype": "float32", "prompt": "p" * 200},
        )  # fmt: skip
        write_scorer(root, "judge", shard, {"quality": QUALITY[shard]}, schema(quality=pa.int16()))
    return root


def text(explanation: Explanation) -> str:
    return "\n".join(explanation.lines())


def test_where_it_lies_and_how_it_ranks(scores: str) -> None:
    (sample,) = explain("b0002", scores).samples
    assert (sample.shard, sample.row, sample.url, sample.uid) == ("b", 2, "/data/b.tar", uid("b0002"))
    clip, judge = sample.scored
    assert (clip.scorer, clip.status, judge.values["quality"]) == ("clip", "ok", 5)
    assert clip.ranks["clip_score"] == Rank(3, 0, 5)
    assert judge.ranks["quality"] == Rank(1, 0, 5)
    assert clip.ranks["clip_score"].top == 3 / 5
    (tied,) = explain(uid("a0001").upper(), scores).samples
    assert tied.key == "a0001"
    assert tied.scored[0].ranks["clip_score"] == Rank(1, 1, 5)
    shown = text(explain("b0002", scores))
    assert "row 2 of shard b: /data/b.tar" in shown
    assert "rank 3 of 5 (top 60.0%)" in shown
    assert "model ViT-tiny" in shown
    assert "print-of-cli" in shown
    assert "p" * 100 not in shown


@pytest.mark.parametrize(("key", "kept"), [("a0000", False), ("a0002", True), ("b0000", True), ("b0002", False)])
def test_what_decided_agrees_with_select(scores: str, tmp_path: Path, key: str, kept: bool) -> None:
    select(scores, str(tmp_path / "kept.txt"), where=WHERE)
    explanation = explain(key, scores, where=WHERE, subset=str(tmp_path / "kept.txt"))
    (sample,) = explanation.samples
    assert sample.kept is kept
    assert sample.copies == int(kept)
    assert ("KEPT" if kept else "DROPPED") in text(explanation)
    assert f"{'in' if kept else 'not in'} the subset {tmp_path / 'kept.txt'}" in explanation.lines()


def test_every_part_shows_value_and_threshold(scores: str) -> None:
    (sample,) = explain("b0000", scores, where=WHERE).samples
    steps = [(step.depth, step.text, step.passed) for step in sample.steps or ()]
    assert steps == [
        (0, "all of", True),
        (1, "quality >= 2", True),
        (1, "any of", True),
        (2, "clip_score >= top(40%)", False),
        (2, "not", True),
        (3, "(clip_score * 10) > 2.5", False),
    ]
    details = {step.text: step.detail for step in sample.steps or ()}
    assert details["quality >= 2"] == "quality is 4"
    assert details["clip_score >= top(40%)"] == "clip_score is 0.2; the last of 2 kept (of 5) has 0.4"
    assert details["(clip_score * 10) > 2.5"] == "clip_score * 10 is 2"


def test_ties_are_told(scores: str) -> None:
    both = [explain(key, scores, where="clip_score >= top(1)").samples[0] for key in ("a0001", "a0002")]
    assert sorted(str(sample.kept) for sample in both) == ["False", "True"]
    for sample in both:
        assert "2 rows are tied there and a hash of the uid decided" in (sample.steps or ())[0].detail


def test_a_sample_without_a_score(scores: str) -> None:
    explanation = explain("b0001", scores, where=WHERE)
    (sample,) = explanation.samples
    assert sample.kept is False
    assert (sample.steps or ())[0].text == "has quality, clip_score"
    assert sample.scored[0].ranks == {}
    assert "clip: corrupt_image (cut \\x1b[31mshort)" in text(explanation)
    assert "\x1b" not in text(explanation)


def test_a_key_in_several_shards(scores: str) -> None:
    for shard in "cd":
        for scorer, column in (("clip", "clip_score"), ("judge", "quality")):
            kind = pa.float32() if scorer == "clip" else pa.int16()
            write_scorer(
                scores, scorer, shard, {column: [1]}, schema(**{column: kind}), keys=["same"], uids=[uid(shard)]
            )
    explanation = explain("same", scores)
    assert [sample.shard for sample in explanation.samples] == ["c", "d"]
    assert "2 samples have this name" in text(explanation)
    assert [sample.shard for sample in explain(uid("d"), scores).samples] == ["d"]


def test_a_shard_that_one_scorer_lacks(scores: str) -> None:
    write_scorer(scores, "judge", "c", {"quality": [9]}, schema(quality=pa.int16()))
    explanation = explain(keys_of("c", 1)[0], scores)
    assert explanation.samples[0].missing == ("clip",)
    assert "clip: this shard has not been scored" in text(explanation)


def test_an_unknown_key_is_told_with_near_ones(scores: str) -> None:
    with pytest.raises(VlfilterError, match=r"no sample .* 'b0003'.* in shard b: .*b0002"):
        explain("b0003", scores)
    with pytest.raises(VlfilterError, match="no sample"):
        explain("f" * 32, scores)
