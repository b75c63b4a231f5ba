"""Captions to vectors that clustering can work on: a CLIP's text tower, or words alone where no model is given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vlfilter.errors import VlfilterError

CLIP_BATCH = 256
WORD_DIMENSIONS = 64
MAX_WORDS = 50_000


class Embedder(Protocol):
    """`fit` sees a sample of the captions once; then each call gives unit vectors, n captions → (n, d) float32."""

    def fit(self, captions: Sequence[str]) -> None: ...

    def __call__(self, captions: Sequence[str]) -> np.ndarray: ...


class WordEmbedder:
    """TF-IDF over words and pairs of words, reduced by a truncated SVD (latent semantic analysis): needs no model."""

    def __init__(self, seed: int):
        self.seed = seed

    def fit(self, captions: Sequence[str]) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._words = TfidfVectorizer(ngram_range=(1, 2), max_features=MAX_WORDS, sublinear_tf=True, dtype=np.float32)
        try:
            counted = self._words.fit_transform(captions)
        except ValueError as error:
            raise VlfilterError(f"the captions cannot be clustered by their words: {error}") from error
        dimensions = min(WORD_DIMENSIONS, counted.shape[1] - 1, counted.shape[0] - 1)
        self._svd = TruncatedSVD(dimensions, random_state=self.seed) if dimensions > 1 else None
        if self._svd is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # all captions alike: no variance to explain
                self._svd.fit(counted)

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        counted = self._words.transform(captions)
        dense = counted.toarray() if self._svd is None else self._svd.transform(counted)
        return unit(dense)


class ClipEmbedder:
    """The text tower of any CLIP that the scorer `clip_score` takes; needs no fitting."""

    def __init__(self, model: str, device: str = "auto"):
        from vlfilter.models.clip import load_clip
        from vlfilter.models.device import resolve_device, resolve_dtype

        where = resolve_device(device)
        self._clip = load_clip(model, device=where, dtype=resolve_dtype("auto", where))

    def fit(self, captions: Sequence[str]) -> None:
        pass

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        import torch

        from vlfilter.models.clip import pad_ids

        clip, parts = self._clip, []
        with torch.inference_mode():
            for start in range(0, len(captions), CLIP_BATCH):
                ids = [clip.tokens(caption)[0] for caption in captions[start : start + CLIP_BATCH]]
                parts.append(clip.encode_texts(pad_ids(ids, clip.tokens.pad).to(clip.device)).float().cpu().numpy())
        return unit(np.concatenate(parts)) if parts else np.zeros((0, 1), np.float32)


def make_embedder(model: str | None, seed: int, device: str = "auto") -> Embedder:
    return WordEmbedder(seed) if model is None else ClipEmbedder(model, device)


def embedder_parts(model: str | None) -> dict[str, str]:
    """What tells one embedder's vectors from another's."""
    if model is None:
        return {"embedder": "words", "code": "1"}
    from vlfilter.models.clip_source import clip_source

    return {"embedder": "clip", "model": clip_source(model).digest(), "code": "1"}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one, float32; a row of zeros (a caption without a known word) stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
