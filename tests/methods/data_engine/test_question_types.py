"""The types are those of the published prompt."""

from __future__ import annotations

import re

from tests.methods.data_engine.fixtures import shared
from vlfilter.methods.data_engine.question_types import (
    QUESTION_TYPES,
    RETIRED_TYPES,
    SEED_TYPES,
    TYPE_KEYS,
    definition_of,
    key_of,
    words_of,
)


def test_numbers_and_keys() -> None:
    assert [kind.number for kind in QUESTION_TYPES] == list(range(1, 19))
    assert [kind.number for kind in SEED_TYPES] == list(range(1, 10))
    assert len(set(TYPE_KEYS)) == 18
    assert len({kind.key for kind in (*QUESTION_TYPES, *RETIRED_TYPES, *SEED_TYPES)}) == 30
    assert TYPE_KEYS[17] == "knowledge-based_reasoning"  # the hyphen stays


def test_keys_are_read_from_names_as_the_original_does() -> None:
    assert key_of(" Image Scene ") == "image_scene"
    assert words_of("knowledge-based_reasoning") == "knowledge-based reasoning"
    for kind in (*QUESTION_TYPES, *RETIRED_TYPES):
        assert key_of(words_of(kind.key)) == kind.key
        assert words_of(kind.key).capitalize() == kind.name
        assert definition_of(kind.key) == kind.definition
    assert definition_of("no_such_type") is None


def test_definitions_are_the_published_prompt() -> None:
    text = shared("prestep/prompt_template.txt").read_text(encoding="utf-8")
    found = re.findall(r"^    \((\d+)\) ([^:]+): (.*) $", text, re.MULTILINE)
    assert found == [(str(kind.number), kind.name, kind.definition) for kind in QUESTION_TYPES]
