"""Texts of one list that are nearly those of another."""

from __future__ import annotations

import random

import pytest

from vlfilter.selection.near_duplicates import jaccard, near_matches, shingles, words_of


def test_the_nearest_is_found_and_the_first_of_equals() -> None:
    others = ["what is the man doing", "what is the red cat doing on the mat", "What is the RED cat doing on the mat?"]
    texts = ["what is the red cat doing on the mat?", "where are all the dogs", "", "what is the man doing"]
    assert near_matches(texts, others, 0.8) == {0: (1, 1.0), 3: (0, 1.0)}
    assert near_matches(texts, [], 0.8) == {}
    assert near_matches(["a b"], ["", "a b"], 1.0) == {0: (1, 1.0)}


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_exact_similarity(seed: int) -> None:
    rng = random.Random(seed)
    others = [" ".join(rng.choices("abcdefgh", k=12)) for _ in range(30)]
    texts = []
    for other in rng.choices(others, k=40):
        words = other.split()
        for _ in range(rng.randint(0, 3)):
            words[rng.randrange(12)] = rng.choice("xyz")
        texts.append(" ".join(words))
    found = near_matches(texts, others, 0.7)
    hashed = [shingles(words_of(other)) for other in others]
    exact = {}
    for place, text in enumerate(texts):
        similarity, other = max((jaccard(shingles(words_of(text)), one), -i) for i, one in enumerate(hashed))
        if similarity >= 0.7:
            exact[place] = (-other, similarity)
    assert found == exact
    assert exact
