"""Single images → sets that a document can be written about: those whose captions have words in common go together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def similar_sets(captions: Sequence[str], size: int) -> list[tuple[int, ...]]:
    """Sets of `size` places, each place in one at most: the first image that is left and those most like it.

    Likeness is the cosine of TF-IDF vectors; images without a caption are like any other. What is left over at the end
    goes unused. Takes time in proportion to the square of the number of captions (40,000: a few minutes).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = None
    if any(caption.strip() for caption in captions):
        try:
            vectors = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(captions).tocsr()
        except ValueError:  # nothing but stop words
            vectors = None
    free = np.arange(len(captions))
    sets = []
    while len(free) >= size:
        first, rest = free[0], free[1:]
        if vectors is None:
            taken = np.arange(size - 1)
        else:
            likeness = (vectors[rest] @ vectors[first].T).toarray().ravel()
            taken = np.argsort(-likeness, kind="stable")[: size - 1]
        sets.append((int(first), *(int(place) for place in rest[taken])))
        free = np.delete(rest, taken)
    return sets
