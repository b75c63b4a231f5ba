"""Keys are told to be there or not, and nothing more."""

from __future__ import annotations

import pytest

from vlfilter.doctor.keys import KEYS, check_keys


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in KEYS:
        monkeypatch.delenv(variable, raising=False)


def told(blocks: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    lines = {check.text.split()[0].rstrip(":"): (check.level, check.text) for check in check_keys(blocks)}
    assert set(lines) == set(KEYS)
    return lines


def test_no_keys_are_no_fault() -> None:
    assert {level for level, _ in told().values()} == {"note"}


def test_a_key_is_told_to_be_there_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    assert told()["OPENAI_API_KEY"] == ("ok", "OPENAI_API_KEY is set")


@pytest.mark.parametrize("value", ['"sk-planted"', "sk-planted sk-two", "sk-plantéd"])
def test_a_key_that_can_be_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", value)
    level, text = told()["ANTHROPIC_API_KEY"]
    assert level == "warn"
    assert "plant" not in text


def test_a_secret_block_stands_in_for_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(("openai-api-key", "other"))
    assert lines["OPENAI_API_KEY"] == ("ok", "OPENAI_API_KEY: from the Secret block openai-api-key")
    assert lines["ANTHROPIC_API_KEY"][0] == "note"
