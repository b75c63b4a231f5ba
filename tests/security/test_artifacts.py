"""Hostile text in what a run's page shows: Markdown artifacts hold it as text, tables as values."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from prefect import flow

from tasks import data_engine_artifacts, data_engine_gate, mlm_filter_artifacts, unifilter_artifacts
from tasks.markdown import bullets, code, plain
from vlfilter.data.aokvqa import parse_row

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://127.0.0.1/a.png)",
    "<http://127.0.0.1/>",
    "a | b\n|---|---|\n| x | y |",
    "`code` **bold** _it_ ~~no~~ # title",
    "```\n</code></pre><script>alert(2)</script>",
    "&lt;script&gt; &amp; \\<b>",
    "- item\n1. item\n> quote",
)
WRITTEN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MAY_BE = {
    "paragraph", "text", "inline", "bullet_list", "list_item", "code_inline", "table", "thead", "tbody", "tr", "th",
    "td",
}  # fmt: skip


def kinds(markdown: str) -> set[str]:
    """What a reader of Markdown makes of it, HTML allowed, as a page may allow it."""
    found = set()
    for token in WRITTEN.parse(markdown):
        for one in (token, *(token.children or ())):
            found.add(one.type.removesuffix("_open").removesuffix("_close"))
    return found


def shown(markdown: str) -> str:
    """The text on the page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", WRITTEN.render(markdown))).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_is_shown_as_it_is(text: str) -> None:
    assert kinds(bullets([text, text])) <= MAY_BE
    assert shown(bullets([text])) == " ".join(text.split())
    assert kinds(f"in {code(text)} and {plain(text)}") <= MAY_BE


def test_without_care_they_would_be_more_than_text() -> None:
    found = set[str]().union(*(kinds(text) for text in HOSTILE))
    assert found >= {"html_block", "image", "link", "table", "fence", "bullet_list", "strong"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60))
def test_any_text_is(text: str) -> None:
    assert kinds(f"- {plain(text)}") <= MAY_BE
    assert kinds(f"in {code(text)}") <= MAY_BE
    # what Markdown does to blanks and to characters that no page shows is its own
    if text.isprintable():
        assert shown(f"- {plain(text)}") == " ".join(text.split())


def test_runs_show_hostile_text_as_text(prefect_api: str, tmp_path: Path) -> None:
    told = {"lines": list(HOSTILE)}
    row = {
        "image_id": 1, "question_id": HOSTILE[0], "question": HOSTILE[1], "choices": list(HOSTILE[:4]),
        "correct_choice_idx": 0, "direct_answers": [HOSTILE[2]], "rationales": [HOSTILE[3]],
    }  # fmt: skip
    rows = [parse_row(row)]

    @flow(name="hostile", persist_result=False)
    def write() -> None:
        mlm_filter_artifacts.selection_note(told, "/data/<b>`x`</b>")
        unifilter_artifacts.selection_note(told, "/data/<b>`x`</b>")
        data_engine_artifacts.gain_note([10.0, 20.0], HOSTILE)
        data_engine_gate._show(rows, 1, 1)

    write()
    latest = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).raise_for_status().json()
    found: dict[str, Any] = {artifact["key"]: artifact for artifact in latest}
    for key in ("mlm-filter-selection", "unifilter-selection", "data-engine-rounds"):
        assert kinds(found[key]["data"]) <= MAY_BE, key
        assert HOSTILE[0] in shown(found[key]["data"])
        assert HOSTILE[2] in shown(found[key]["data"])
    sample = found["data-engine-round-1-sample"]
    assert json.loads(sample["data"])[0]["question"] == HOSTILE[1]  # a value, which the page writes as text
    assert kinds(sample["description"]) <= MAY_BE
