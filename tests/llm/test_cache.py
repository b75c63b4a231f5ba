"""Nothing is paid for twice: across judges, on disk and on S3, and past damaged entries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.llm.vendor import Play, VendorServer
from vlfilter.data.storage import filesystem, join, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.llm.cache import Cache, cache_key
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.types import Answer, Image, Outcome, Request, Usage

BASE = Request("p", (Image(b"1", "image/png"),), "s", {"type": "object"}, 100, 0.0)


def key(request: Request, vendor: str = "openai", model: str = "m", server: str = "") -> str:
    return cache_key(request, vendor, model, server)


def test_the_key_holds_all_that_changes_the_answer() -> None:
    others = [
        key(replace(BASE, prompt="q")),
        key(replace(BASE, images=())),
        key(replace(BASE, images=(Image(b"2", "image/png"),))),
        key(replace(BASE, images=(Image(b"1", "image/webp"),))),
        key(replace(BASE, images=BASE.images * 2)),
        key(replace(BASE, system=None)),
        key(replace(BASE, schema={"type": "array"})),
        key(replace(BASE, schema=None)),
        key(replace(BASE, max_tokens=101)),
        key(replace(BASE, temperature=1.0)),
        key(replace(BASE, temperature=None)),
        key(BASE, vendor="anthropic"),
        key(BASE, model="n"),
        key(BASE, server="localhost:8000/v1"),
    ]
    assert len({key(BASE), *others}) == 1 + len(others)


def test_the_key_does_not_hold_labels_and_the_order_of_a_schema() -> None:
    assert key(replace(BASE, labels={"shard": "7"})) == key(BASE)
    two = [replace(BASE, schema=schema) for schema in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    assert key(two[0]) == key(two[1])


def test_the_key_stays_the_same_in_every_release() -> None:
    # Changing it makes everybody pay again: raise CLIENT_VERSION on purpose, and this with it.
    assert key(Request("hello")) == "8cede49c4ee3415d35c1bf02382a577f393d7e61e19818644bf7ebf8650c3b15"


def test_a_second_judge_pays_nothing(vendor: VendorServer, tmp_path: Path) -> None:
    settings = JudgeSettings("openai:gpt-4o", base_url=vendor.openai_url, cache=str(tmp_path / "c"))
    vendor.script(Play("refusal", text="no"))
    requests = [Request(f"q{i}") for i in range(5)]
    for asked in (5, 5):
        with Judge(settings) as judge:
            answers = judge.ask_all(requests)
        assert len(vendor.questions()) == asked
    assert all(answer.cached and answer.usd == 0 for answer in answers)
    assert sorted(answer.outcome for answer in answers) == ["answered"] * 4 + ["refused"]
    assert {answer.usage for answer in answers} == {Usage(100, 10)}


def test_empty_and_failed_are_asked_again(vendor: VendorServer, tmp_path: Path) -> None:
    vendor.script(Play("empty"), Play("status", status=400), Play(text="1"), Play(text="2"))
    settings = JudgeSettings("openai:m", base_url=vendor.openai_url, cache=str(tmp_path), concurrency=1)
    with Judge(settings) as judge:
        first = judge.ask_all([Request("a"), Request("b")])
        second = judge.ask_all([Request("a"), Request("b")])
    assert [a.outcome for a in first] == [Outcome.EMPTY, Outcome.FAILED]
    assert [a.text for a in second] == ["1", "2"]


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", b'{"key": 1}', b"\xff\xfe", "half", "other", "failed"])
def test_a_damaged_entry_is_a_miss(tmp_path: Path, damage: bytes | str) -> None:
    cache = Cache(str(tmp_path))
    digest = key(BASE)
    cache.put(digest, Answer(Outcome.ANSWERED, "x", {"a": [1]}, "why", Usage(1, 2, 3, 4), 0.5, model="m"))
    assert cache.get(digest) == Answer(Outcome.ANSWERED, "x", {"a": [1]}, "why", Usage(1, 2, 3, 4), 0.0, True, "m")
    path = next(tmp_path.rglob("*.json"))
    whole = path.read_bytes()
    if damage == "half":
        damage = whole[: len(whole) // 2]
    elif damage == "other":
        damage = whole.replace(digest.encode(), digest[::-1].encode())
    elif damage == "failed":
        damage = whole.replace(b'"answered"', b'"failed"')
    assert isinstance(damage, bytes)
    path.write_bytes(damage)
    assert cache.get(digest) is None


def test_odd_text_survives(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    answer = Answer(Outcome.ANSWERED, "half a pair \ud800, NUL \0, 🐈", data={"ü": None})
    cache.put("ab" * 32, answer)
    assert cache.get("ab" * 32) == replace(answer, cached=True)


def test_a_cache_that_cannot_be_written_is_said_before_paying(vendor: VendorServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = JudgeSettings("openai:m", base_url=vendor.openai_url, cache=str(tmp_path / "file" / "cache"))
    with Judge(settings) as judge, pytest.raises(VlfilterError, match=r"not writable|cannot be read"):
        judge.ask_all([Request("q")])
    assert vendor.seen == []


def test_on_s3(vendor: VendorServer, s3: str) -> None:
    settings = JudgeSettings("openai:gpt-4o", base_url=vendor.openai_url, cache=join(s3, "cache"))
    for _ in range(2):
        with Judge(settings) as judge:
            answers = judge.ask_all([Request(f"q{i}") for i in range(6)])
    assert len(vendor.questions()) == 6
    assert all(answer.cached for answer in answers)
    fs, path = filesystem(join(s3, "cache", "answers"))
    entries = fs.find(path)
    assert len(entries) == 6
    assert json.loads(read_bytes(f"s3://{entries[0]}"))["outcome"] == "answered"
