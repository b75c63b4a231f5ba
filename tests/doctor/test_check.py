"""Findings: one line each, whatever breaks, and no secret in any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vlfilter.doctor.check import Check, Look, examine, healthy, plain
from vlfilter.doctor.secrets import without_secrets, without_user
from vlfilter.errors import VlfilterError


def test_what_breaks_is_a_finding_and_the_others_go_on() -> None:
    def half() -> Iterator[Check]:
        yield Check("half", "ok", "the first part")
        raise KeyError("gone")

    def mistake() -> Check:
        raise VlfilterError("start\nit first.")

    found = list(examine([Look("half", half), Look("mistake", mistake), Look("last", lambda: Check("last", "ok", ""))]))
    assert [(check.name, check.level, check.text) for check in found] == [
        ("half", "ok", "the first part"),
        ("half", "fail", "KeyError: 'gone'"),
        ("mistake", "fail", "start it first."),
        ("last", "ok", ""),
    ]
    assert not healthy(found)
    assert plain(found[:1]) == {
        "healthy": True,
        "checks": [{"name": "half", "level": "ok", "text": "the first part", "advice": ""}],
    }


@pytest.mark.parametrize("level", ["note", "warn"])
def test_only_a_failure_is_one(level: str) -> None:
    assert healthy([Check("x", "ok", ""), Check("x", level, "")])  # type: ignore[arg-type]


def test_secrets_are_cut_out_of_text_and_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")

    def leak() -> Check:
        raise RuntimeError("401 for Bearer sk-planted at http://admin:hunter2@host/api")

    (found,) = examine([Look("leak", leak)])
    assert found.text == "RuntimeError: 401 for Bearer … at http://…@host/api"


def test_short_values_are_words_and_not_secrets() -> None:
    environment = {"TOKENIZERS_PARALLELISM": "no", "MY_TOKEN": "abcd", "PATH": "no-secret"}
    assert without_secrets("no-secret abcd", environment) == "no-secret …"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:pw@host:4200/api?key=1#x", "http://host:4200/api"),
        ("https://host/api", "https://host/api"),
        ("http://me@[::1]:4200/api", "http://[::1]:4200/api"),
    ],
)
def test_an_address_is_shown_without_its_user(url: str, shown: str) -> None:
    assert without_user(url) == shown
