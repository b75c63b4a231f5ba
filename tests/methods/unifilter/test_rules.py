"""Which texts are rejected, with which verdict, and which must not be."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfilter.data.quality_rows import Kind
from vlfilter.methods.unifilter.balancing import balance, shuffled
from vlfilter.methods.unifilter.levels import LEVELS, SCORES
from vlfilter.methods.unifilter.rules import TextRules, gives_away, judge_texts, reject_incomplete
from vlfilter.methods.unifilter.texts import LevelText, Verdict
from vlfilter.selection.near_duplicates import jaccard, near_duplicates, shingles, words_of

RULES = TextRules()
POSITIVE = "Two brown dogs run after a yellow ball on the wet beach while a man watches them"
GOOD = (
    "A stack of old newspapers lies beside the till of a small bakery",
    "Three grey cats sleep under a yellow ball on the dry roof as a man sings",
    POSITIVE.replace("Two", "Five"),
    POSITIVE,
)


def text(slot: str, level: int = 3, item: str = "a", kind: Kind = "caption", **other: str) -> LevelText:
    fields = {"status": "ok", "reason": "", "side": "train", **other}
    return LevelText(item, kind, ("x.jpg",), fields["side"], level, (slot,), fields["status"], fields["reason"], 1)  # type: ignore[arg-type]


def four(texts: tuple[str, ...] = GOOD, item: str = "a", **other: str) -> list[LevelText]:
    return [text(slot, level, item, **other) for level, slot in enumerate(texts)]  # type: ignore[arg-type]


def verdicts(texts: list[LevelText], rules: TextRules = RULES) -> list[str]:
    return [found.status for found in judge_texts(texts, rules)]


def test_a_good_set_passes() -> None:
    assert verdicts(four()) == ["ok"] * 4


@pytest.mark.parametrize(
    "told",
    [
        "a level 2 caption of a boat",
        "Level_0: a boat at sea",
        "this is a hard negative of a boat",
        "a low-quality caption about boats",
        "a lower quality description of it",
        "a positive example with a boat",
        "a boat, deliberately wrong in its colour",
        "a boat with an intentional error",
        "This caption describes a boat that is incorrect",
        "the text does not match what is seen",
        "a poem unrelated to the image",
        "a poem unrelated to these holiday photos",
        "a boat. Quality score: 2",
        "a red (incorrect) boat on a lake",
        "a red [wrong colour] boat on a lake",
        "The description is accurate and shows a boat",
    ],
)
def test_texts_that_give_their_level_away_are_found(told: str) -> None:
    assert gives_away(told)
    assert verdicts([text(told)]) == [Verdict.GIVES_AWAY]


@pytest.mark.parametrize(
    "innocent",
    [
        POSITIVE,
        "a low quality photo of a street at night",
        "a road sign with the text No Entry in red letters",
        "a house above sea level on a green hill",
        "a wrong-way sign beside the road",
        "a photographic negative of a steam train",
        "an example of Gothic architecture in France",
        "a high-quality leather bag on a table",
        "a whiteboard with the caption of a cartoon",
        "the score on the board reads home 2 guests 3",
    ],
)
def test_texts_that_only_sound_like_it_stay(innocent: str) -> None:
    assert gives_away(innocent) == ""
    assert verdicts([text(innocent)]) == ["ok"]


@pytest.mark.parametrize(
    ("slot", "verdict"),
    [
        ("I'm sorry, but I can't help with that picture", Verdict.REFUSED),
        ("I cannot write a caption for a person", Verdict.REFUSED),
        ("As an AI model I see no image here", Verdict.REFUSED),
        ("Unfortunately, I am unable to see it", Verdict.REFUSED),
        ("a boat", Verdict.TOO_SHORT),
        ("", Verdict.TOO_SHORT),
        ("boat " * 301, Verdict.TOO_LONG),
    ],
)
def test_refusals_in_words_and_lengths(slot: str, verdict: Verdict) -> None:
    found = judge_texts([text(slot)], RULES)[0]
    assert found.status == verdict
    assert found.reason


def test_equal_levels_go_both_and_a_hard_negative_may_be_close() -> None:
    same = judge_texts(four((*GOOD[:2], POSITIVE.upper() + ".", POSITIVE)), RULES)
    assert [found.status for found in same] == ["ok", "ok", Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert "level 3" in same[2].reason
    assert verdicts(four((GOOD[0], POSITIVE.replace("them", "it"), *GOOD[2:])))[1] == Verdict.DUPLICATE


def test_a_hard_negative_must_be_close_for_captions_only() -> None:
    far = (*GOOD[:2], "An empty chair in front of a blue door", POSITIVE)
    assert verdicts(four(far)) == ["ok", "ok", Verdict.NOT_HARD, "ok"]
    long = tuple(f"{slot}. " + " ".join(f"{slot.split()[1]}{i}" for i in range(30)) for slot in far)
    assert verdicts(four(long, kind="interleaved")) == ["ok"] * 4


def test_the_same_text_for_several_images_stays_once_at_a_level() -> None:
    apples = "Some green apples hang in a tree above a stony path"
    other = four((GOOD[0] + "!", POSITIVE, apples.replace("green", "blue"), apples), "b")
    assert verdicts([*four(), *other]) == ["ok"] * 4 + [Verdict.DUPLICATE, "ok", "ok", "ok"]


def test_what_has_a_verdict_keeps_it() -> None:
    failed = text("", status="failed", reason="HTTP 500")
    assert judge_texts([failed], RULES) == [failed]


def test_a_set_that_lost_a_level_goes_whole_with_the_cause() -> None:
    texts = [*four(), *four(tuple(f"{slot} again" for slot in GOOD), "b")]
    texts[1] = text("x", 1, status="too_short", reason="1 words")
    left = reject_incomplete(texts)
    assert [found.status for found in left] == [Verdict.INCOMPLETE_SET, "too_short", *[Verdict.INCOMPLETE_SET] * 2] + [
        "ok"
    ] * 4
    assert left[0].reason == "level 1 (medium negative) is too_short"


texts_lists = st.lists(
    st.builds(
        lambda item, level, side, ok, kind: text(
            "w", level, f"{item}{side}", kind, side=side, status="ok" if ok else "too_short"
        ),
        st.integers(0, 12),
        st.sampled_from(SCORES),
        st.sampled_from(["train", "validation"]),
        st.booleans(),
        st.sampled_from(["caption", "interleaved"]),
    ),
    max_size=80,
    unique_by=lambda found: (found.kind, found.item, found.level),
)


@given(texts_lists, st.integers(0, 3))
@settings(deadline=None)
def test_balance_is_exact_and_takes_all_it_can(texts: list[LevelText], seed: int) -> None:
    balanced = balance(texts, seed)
    assert [(t.kind, t.item, t.level) for t in balanced] == [(t.kind, t.item, t.level) for t in texts]
    before = Counter((t.kind, t.side, t.level) for t in texts if t.status == "ok")
    after = Counter((t.kind, t.side, t.level) for t in balanced if t.status == "ok")
    for kind in ("caption", "interleaved"):
        for side in ("train", "validation"):
            rarest = min(before[kind, side, level] for level in SCORES)
            assert [after[kind, side, level] for level in SCORES] == [rarest] * len(LEVELS)
    changed = [t for old, t in zip(texts, balanced, strict=True) if old != t]
    assert all(t.status == Verdict.SURPLUS and t.reason for t in changed)


@given(texts_lists, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_balance_does_not_depend_on_the_order(texts: list[LevelText], lots: random.Random) -> None:
    other = lots.sample(texts, len(texts))
    assert shuffled(balance(texts, 0), 5) == shuffled(balance(other, 0), 5)


def test_balance_prefers_whole_sets_and_obeys_the_seed() -> None:
    whole = [t for i in range(3) for t in four(GOOD, f"w{i}")]
    loose = [text("w", 3, f"l{i}") for i in range(30)]
    kept = {t.item for t in balance([*loose, *whole], 0) if t.status == "ok"}
    assert kept == {"w0", "w1", "w2"}
    more = [text("w", level, f"{level}-{i}") for level in SCORES for i in range(3 if level else 1)]
    chosen = {tuple(t.item for t in balance(more, seed) if t.status == "ok") for seed in range(20)}
    assert len(chosen) > 5


def sentence(words: list[str], lots: random.Random, changed: float) -> str:
    return " ".join(f"w{lots.randrange(10**6)}" if lots.random() < changed else word for word in words)


@given(st.integers(0, 10**6), st.sampled_from([0.6, 0.8, 0.95]))
@settings(deadline=None, max_examples=25)
def test_near_duplicates_are_exactly_those_that_exact_similarity_finds(seed: int, threshold: float) -> None:
    lots = random.Random(seed)
    bases = [[f"b{i}x{j}" for j in range(40)] for i in range(4)]
    texts = [sentence(lots.choice(bases), lots, lots.choice([0.0, 0.01, 0.03, 0.2])) for _ in range(24)]
    found = near_duplicates(texts, threshold)
    hashed = [shingles(words_of(one)) for one in texts]
    kept: list[int] = []
    for place, one in enumerate(hashed):
        likeness = [(jaccard(one, hashed[other]), -other) for other in kept]
        clear = max(likeness, default=(0.0, 0))
        if clear[0] >= threshold + 0.1 or (clear[0] >= threshold and threshold >= 0.8):
            assert place in found
        if clear[0] < threshold:
            assert place not in found
        if place in found:
            assert found[place][1] >= threshold
        else:
            kept.append(place)


def test_near_duplicates_see_neither_case_nor_punctuation() -> None:
    assert near_duplicates([POSITIVE, POSITIVE.upper() + "!", "other words", ""], 1.0) == {1: (0, 1.0)}
    assert near_duplicates(["", ""], 0.8) == {}
    assert near_duplicates(["one two", "one two"], 0.8) == {1: (0, 1.0)}
