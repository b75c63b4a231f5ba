"""CLIP score (Radford et al. 2021; DataComp's `clip_*_similarity_score`): cosine similarity of image and caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.errors import VlfilterError
from vlfilter.models.clip_source import clip_source
from vlfilter.models.clip_text import CaptionTokens
from vlfilter.models.preprocess import ImageSettings, to_pixels
from vlfilter.scoring.base import Prepared, ScorerSettings, one_pair
from vlfilter.scoring.finite import finite
from vlfilter.scoring.options import COMPAT, DTYPES, choose, refuse_options

if TYPE_CHECKING:
    from vlfilter.models.clip import LoadedClip

CODE_VERSION = 1  # raised by whoever changes a score


@dataclass(frozen=True, slots=True)
class _Payload:
    pixels: np.ndarray  # (H, W, 3) uint8
    ids: list[int]
    truncated: bool


@dataclass(frozen=True, slots=True)
class ClipPreparer:
    """Of a loaded model."""

    name: str
    images: ImageSettings
    tokens: CaptionTokens
    patches: int

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        pair = one_pair(content, self.name)
        ids, truncated = self.tokens(pair.caption)
        return Prepared(self.patches + len(ids), _Payload(to_pixels(pair.image, self.images), ids, truncated))


class ClipScore:
    """Scores `ImageText` content: the cosine, not scaled by the model's temperature.

    The model is a transformers CLIP checkpoint (folder or hub name) or an open_clip one (`open_clip:` before its name).
    `compat="original"` lets special tokens written out in a caption act as such, as the libraries do.
    """

    name = "clip_score"
    columns = pa.schema([pa.field("clip_score", pa.float32()), pa.field("truncated", pa.bool_())])

    def __init__(self, settings: ScorerSettings):
        self.settings = settings
        refuse_options(settings.options, self.name)
        choose(self.name, "compat", settings.compat, COMPAT)
        choose(self.name, "dtype", settings.dtype, DTYPES)
        self._source = clip_source(settings.model)
        self._loaded: LoadedClip | None = None

    def fingerprint(self) -> dict[str, Any]:
        """`dtype` is as asked: `auto` is not resolved, so that a laptop and a GPU worker give the same answer."""
        return {
            "scorer": self.name,
            "code": CODE_VERSION,
            "model": self._source.digest(),
            "dtype": self.settings.dtype,
            "compat": self.settings.compat,
        }

    def load(self) -> None:
        from vlfilter.models.startup import import_transformers

        import_transformers()
        from vlfilter.models.clip import load_clip
        from vlfilter.models.device import resolve_device, resolve_dtype

        device = resolve_device(self.settings.device)
        self._loaded = load_clip(
            self.settings.model,
            device=device,
            dtype=resolve_dtype(self.settings.dtype, device),
            control_tokens=self.settings.compat == "original",
        )

    @property
    def loaded(self) -> LoadedClip:
        if self._loaded is None:
            raise VlfilterError("the clip_score scorer is not loaded: call load() first.")
        return self._loaded

    def preparer(self) -> ClipPreparer:
        return ClipPreparer(self.name, self.loaded.images, self.loaded.tokens, self.loaded.patches)

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        return self.preparer().prepare(content)

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        return self.launch(batch)()

    def launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        import torch

        from vlfilter.models.clip import cosine, pad_ids
        from vlfilter.models.device import download, upload
        from vlfilter.models.preprocess import normalised_chunks

        loaded = self.loaded
        payloads: list[_Payload] = [prepared.payload for prepared in batch]
        with torch.inference_mode():
            pixels = [payload.pixels for payload in payloads]
            chunks = normalised_chunks(pixels, loaded.images, loaded.device)
            images = torch.cat([loaded.encode_images(chunk) for chunk in chunks])
            ids = upload(pad_ids([payload.ids for payload in payloads], loaded.tokens.pad), loaded.device)
            scores = download(cosine(images, loaded.encode_texts(ids)))
        return lambda: {
            "clip_score": finite(scores()).tolist(),
            "truncated": [payload.truncated for payload in payloads],
        }
