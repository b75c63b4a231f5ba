from __future__ import annotations

import random

import pytest

from vlfilter.demo.captions import (
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    PHOTOS,
    STYLES,
    VAGUE,
    Attributes,
    describe,
    label_of,
    level_caption,
    random_attributes,
)

RNG = random.Random(0)
SEEN = [random_attributes(RNG) for _ in range(300)]


def _words(caption: str) -> set[str]:
    return set(caption.replace(",", " ").replace(":", " ").split())


def _wrong(caption: str, attributes: Attributes) -> set[str]:
    """Which attributes a caption gets wrong or does not name."""
    tones = {attributes.tone} if attributes.background else set(STYLES[attributes.tone])
    wrong = set() if label_of(caption) == attributes.label else {"label"}
    wrong |= set() if _words(caption) & tones else {"tone"}
    if attributes.background and not any(name in caption for name in BACKGROUNDS[attributes.background]):
        wrong.add("background")
    return wrong


@pytest.mark.parametrize("label", [*DIGITS, *PHOTOS])
def test_every_caption_names_its_object_first(label: str) -> None:
    for _ in range(60):
        digit = label in DIGITS
        tone = RNG.choice(COLOURS if digit else tuple(STYLES))
        attributes = Attributes(label, tone, RNG.choice(tuple(BACKGROUNDS)) if digit else None)
        assert label_of(describe(attributes, RNG)) == label


@pytest.mark.parametrize("caption", VAGUE)
def test_vague_captions_name_nothing(caption: str) -> None:
    assert label_of(caption) is None


def test_level_three_is_right_in_everything() -> None:
    assert all(_wrong(level_caption(a, 3, RNG), a) == set() for a in SEEN)


def test_level_two_is_wrong_in_exactly_one_attribute() -> None:
    wrong = [_wrong(level_caption(a, 2, RNG), a) for a in SEEN]
    assert all(len(names) == 1 for names in wrong)
    assert set().union(*wrong) == {"label", "tone", "background"}


def test_level_one_is_vague_or_wrong_in_two_attributes() -> None:
    captions = [(a, level_caption(a, 1, RNG)) for a in SEEN]
    assert all(caption in VAGUE or len(_wrong(caption, a)) == 2 for a, caption in captions)
    assert 0 < sum(caption in VAGUE for _, caption in captions) < len(captions)


def test_level_zero_is_about_another_object() -> None:
    for attributes in SEEN:
        named = label_of(level_caption(attributes, 0, RNG))
        assert named is not None
        assert named != attributes.label


def test_captions_vary_in_length() -> None:
    lengths = {len(describe(a, RNG).split()) for a in SEEN}
    assert max(lengths) - min(lengths) >= 4
