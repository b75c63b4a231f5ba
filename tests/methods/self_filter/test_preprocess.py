"""Preprocessing: the published files byte for byte, and a row for every entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlfilter.data.json_lists import stream_list
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import filesystem, join, read_bytes, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.conversations import conversation_text
from vlfilter.methods.self_filter.places import SelfFilterPlaces
from vlfilter.methods.self_filter.preprocess import preprocess
from vlfilter.methods.self_filter.row_shards import row_shards

FIXTURES = Path(__file__).parents[2] / "fixtures" / "self_filter"
PUBLISHED = json.loads((FIXTURES / "preprocess.json").read_text())


def save(path: Path, entries: Any) -> str:
    path.write_text(json.dumps(entries))
    return str(path)


def entry(question: str = "Q?", image: str | None = "a.jpg", **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A."}]
    return ({"id": "x", "image": image} if image else {"id": "x"}) | {"conversations": turns} | fields


def rows(data: str) -> list[dict[str, Any]]:
    return [row for shard in row_shards(data) for row in shard.read().to_pylist()]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_equals_the_published_files(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    output = str(tmp_path / "out") if where == "local" else join(request.getfixturevalue("s3"), "out")
    places = SelfFilterPlaces.below(output)
    done = preprocess(save(tmp_path / "in.json", PUBLISHED["annotation"]), places.preprocess, rows_per_shard=3)
    assert read_bytes(places.annotations) == json.dumps(PUBLISHED["annotation_with_idx"]).encode()
    assert read_bytes(places.text_data) == json.dumps(PUBLISHED["text_data"]).encode()
    found = rows(places.preprocess)
    assert [row["id"] for row in found] == list(range(7))
    assert {str(r["id"]): r["text"] for r in found} == {i: d["text"] for i, d in PUBLISHED["text_data"].items()}
    assert [row["image"] for row in found] == [d.get("image") for d in PUBLISHED["text_data"].values()]
    assert [shard.rows for shard in row_shards(output)] == [3, 3, 1]  # found below the run's output too
    assert (done.rows, done.text_only, done.images) == (7, 1, 5)
    assert [(r["id"], r["reason"]) for r in found if r["status"] != "ok"] == [(5, "the conversation is empty")]


@pytest.mark.parametrize("case", json.loads((FIXTURES / "preprocess_rejects.json").read_text()))
def test_what_stops_the_published_script_is_a_row_with_a_reason(case: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"expected '(human|gpt)'"):
        conversation_text(case["conversations"])
    bad = {"id": "bad", "image": "b.jpg", "conversations": case["conversations"]}
    output = str(tmp_path / "out")
    done = preprocess(save(tmp_path / "in.json", [entry(), bad, entry()]), output)
    found = rows(output)
    assert [row["status"] for row in found] == ["ok", "unsupported", "ok"]
    assert "expected" in found[1]["reason"]
    assert found[1]["text"] is None
    assert found[1]["image"] == "b.jpg"
    assert done.counts == {"ok": 2, "unsupported": 1}
    assert done.examples == [f"entry 1: {found[1]['reason']}"]
    assert [e["unique_idx"] for e in stream_list(join(output, "annotations.json"))] == [0, 1, 2]
    assert list(json.loads(read_bytes(join(output, "text_data.json")))) == ["0", "2"]


@pytest.mark.parametrize(
    ("spoiled", "status", "reason"),
    [
        ("a text", Status.UNSUPPORTED, "no object but str"),
        (None, Status.UNSUPPORTED, "no object"),
        ({"id": 1, "image": "a.jpg"}, Status.MISSING_TEXT, "no list of conversations"),
        ({"conversations": [{"from": "human", "value": 3}]}, Status.MISSING_TEXT, "turn 0 is no text"),
        ({"conversations": ["hello"]}, Status.UNSUPPORTED, "turn 0 is from None"),
        (entry(image=["a.jpg", "b.jpg"]), Status.UNSUPPORTED, "a list of 2"),  # type: ignore[arg-type]
        (entry(image=None, video="v.mp4"), Status.UNSUPPORTED, "video"),
        (entry("half \ud83d"), Status.UNSUPPORTED, "surrogate"),
        (entry(image="half \ud83d"), Status.UNSUPPORTED, "no single path"),
    ],
)
def test_odd_entries_are_rows_with_a_reason(spoiled: Any, status: Status, reason: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    preprocess(save(tmp_path / "in.json", [entry(), spoiled, entry()]), output)
    found = rows(output)
    assert [row["id"] for row in found] == [0, 1, 2]
    assert found[1]["status"] == status
    assert reason in found[1]["reason"]
    stored = list(stream_list(join(output, "annotations.json")))
    assert stored[1] == ({**spoiled, "unique_idx": 1} if isinstance(spoiled, dict) else spoiled)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1}', "not a JSON list"), ("[]", "empty list"), ("not json", "not a JSON"), ('[{"id": 1}', "not a JSON")],
)
def test_files_of_no_use_leave_nothing_behind(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(text)
    with pytest.raises(VlfilterError, match=message):
        preprocess(str(tmp_path / "in.json"), str(tmp_path / "out"))
    assert not (tmp_path / "out" / "annotations.json").exists()
    with pytest.raises(VlfilterError, match="self-filter preprocess"):
        row_shards(str(tmp_path / "out"))
    with pytest.raises(VlfilterError, match="no file"):
        preprocess(str(tmp_path / "absent.json"), str(tmp_path / "out"))


def test_what_is_done_is_not_done_again_and_what_changed_is(tmp_path: Path) -> None:
    source, output = save(tmp_path / "in.json", [entry(str(i)) for i in range(5)]), tmp_path / "out"

    def stamps() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}

    first = preprocess(source, str(output), rows_per_shard=2)
    before = stamps()
    assert preprocess(source, str(output), rows_per_shard=2) == first
    assert stamps() == before
    contents = {shard.name: shard.content for shard in row_shards(str(output))}

    save(tmp_path / "in.json", [entry(str(i)) for i in (0, 1, 7)])
    preprocess(source, str(output), rows_per_shard=2)
    now = {shard.name: shard.content for shard in row_shards(str(output))}
    assert sorted(now) == ["00000", "00001"]  # 00002 is a leftover and goes
    assert now["00000"] == contents["00000"]  # equal rows count as equal, though the file is another
    assert now["00001"] != contents["00001"]
    assert not (output / "rows" / "00002.parquet").exists()

    (output / "rows" / "00001.parquet").write_bytes(b"torn")
    preprocess(source, str(output), rows_per_shard=2)
    assert len(rows(str(output))) == 3


def test_a_run_that_died_half_way_is_not_taken_for_done(tmp_path: Path) -> None:
    good = save(tmp_path / "good.json", [entry(str(i)) for i in range(4)])
    preprocess(good, str(tmp_path / "out"), rows_per_shard=2)
    (tmp_path / "cut.json").write_text((tmp_path / "good.json").read_text()[:-20])
    with pytest.raises(VlfilterError):
        preprocess(str(tmp_path / "cut.json"), str(tmp_path / "out"), rows_per_shard=1)
    with pytest.raises(VlfilterError, match="no finished preprocessing"):
        row_shards(str(tmp_path / "out"))
    preprocess(good, str(tmp_path / "out"), rows_per_shard=2)
    assert [shard.rows for shard in row_shards(str(tmp_path / "out"))] == [2, 2]


def test_a_shard_that_is_gone_is_told(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    preprocess(save(tmp_path / "in.json", [entry(), entry()]), output, rows_per_shard=1)
    fs, path = filesystem(join(output, "rows/00001.parquet"))
    fs.rm_file(path)
    with pytest.raises(VlfilterError, match=r"00001\.parquet is gone"):
        row_shards(output)
    write_bytes(join(output, "rows/00001.parquet"), b"torn")
    with pytest.raises(VlfilterError, match=r"00001\.parquet"):
        row_shards(output)
