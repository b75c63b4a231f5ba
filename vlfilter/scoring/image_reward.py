"""ImageReward (Xu et al. 2023, arXiv:2304.05977) as a scorer: how much people would like the image for its caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.errors import VlfilterError
from vlfilter.models.image_reward_source import reward_source
from vlfilter.models.preprocess import ImageSettings, to_pixels
from vlfilter.models.wordpiece import WordPieces
from vlfilter.scoring.base import Prepared, ScorerSettings, one_pair
from vlfilter.scoring.finite import finite
from vlfilter.scoring.options import COMPAT, DTYPES, choose, refuse_options

if TYPE_CHECKING:
    from vlfilter.models.image_reward import LoadedReward

CODE_VERSION = 1  # raised by whoever changes a score


@dataclass(frozen=True, slots=True)
class _Payload:
    pixels: np.ndarray  # (H, W, 3) uint8
    ids: list[int]  # 35
    length: int  # how many of the ids count
    truncated: bool


@dataclass(frozen=True, slots=True)
class ImageRewardPreparer:
    """Of a loaded model."""

    name: str
    images: ImageSettings
    words: WordPieces
    tokens: int

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        pair = one_pair(content, self.name)
        ids, length, truncated = self.words(pair.caption)
        return Prepared(self.tokens, _Payload(to_pixels(pair.image, self.images), ids, length, truncated))


class ImageRewardScore:
    """Scores `ImageText` content: the reward as the published package gives it, standardised, unbounded.

    The model is a folder in the published layout or a hub name (`THUDM/ImageReward`). `compat="original"` lets special
    tokens written out in a caption act as such, as the library does.
    """

    name = "image_reward"
    columns = pa.schema([pa.field("image_reward", pa.float32()), pa.field("truncated", pa.bool_())])

    def __init__(self, settings: ScorerSettings):
        self.settings = settings
        refuse_options(settings.options, self.name)
        choose(self.name, "compat", settings.compat, COMPAT)
        choose(self.name, "dtype", settings.dtype, DTYPES)
        self._source = reward_source(settings.model)
        self._loaded: LoadedReward | None = None

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
        from vlfilter.models.device import resolve_device, resolve_dtype
        from vlfilter.models.image_reward import load_image_reward

        device = resolve_device(self.settings.device)
        self._loaded = load_image_reward(
            self.settings.model,
            device=device,
            dtype=resolve_dtype(self.settings.dtype, device),
            control_tokens=self.settings.compat == "original",
        )

    @property
    def loaded(self) -> LoadedReward:
        if self._loaded is None:
            raise VlfilterError("the image_reward scorer is not loaded: call load() first.")
        return self._loaded

    def preparer(self) -> ImageRewardPreparer:
        return ImageRewardPreparer(self.name, self.loaded.images, self.loaded.words, self.loaded.tokens)

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        return self.preparer().prepare(content)

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        return self.launch(batch)()

    def launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        import torch

        from vlfilter.models.device import download, upload
        from vlfilter.models.image_reward import TEXT_TOKENS, normalise_as_published

        loaded = self.loaded
        payloads: list[_Payload] = [prepared.payload for prepared in batch]
        with torch.inference_mode():
            pixels = normalise_as_published([payload.pixels for payload in payloads], loaded.images, loaded.device)
            ids = upload(torch.tensor([payload.ids for payload in payloads]), loaded.device)
            lengths = torch.tensor([payload.length for payload in payloads])
            mask = upload((torch.arange(TEXT_TOKENS) < lengths[:, None]).long(), loaded.device)
            rewards = download(loaded.rewards(pixels, ids, mask))
        return lambda: {
            "image_reward": finite(rewards(), "reward").tolist(),
            "truncated": [payload.truncated for payload in payloads],
        }
