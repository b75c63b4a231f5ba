"""UniFilter (arXiv 2510.15162): the quality of image-caption pairs and interleaved documents, by one classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.errors import VlfilterError
from vlfilter.models.digests import model_digest
from vlfilter.models.folders import hub_file, local_folder, model_folder, read_json
from vlfilter.models.locate import VisionSource, VisionWeights, check_vlm_folder, vision_source
from vlfilter.models.preprocess import ImageSettings, to_pixels
from vlfilter.models.tokenizer import TextTokenizer
from vlfilter.scoring.base import Prepared, ScorerSettings
from vlfilter.scoring.finite import finite
from vlfilter.scoring.options import COMPAT, DTYPES, choose, read_options
from vlfilter.scoring.unifilter_text import (
    TextLimits,
    TokenSequence,
    caption_sequence,
    document_sequence,
    original_caption_sequence,
    original_document_sequence,
)

if TYPE_CHECKING:
    from vlfilter.models.checkpoints import LoadedVlm

CODE_VERSION = 1  # raised by whoever changes a score


@dataclass(frozen=True, slots=True)
class UniFilterOptions:
    """`image_mode` is `squash`, as the published scoring does, `pad`, as the published training did, or `auto`: as the
    checkpoint says that it was trained (`mm_image_mode`, our addition), else squash; the original way always squashes.

    `caption_max_tokens` bounds a caption's text, `document_max_tokens` a document's whole sequence (never beyond what
    the checkpoint was trained with), `max_images` the images read of a document. `vision` tells where the tower's
    weights come from (see `vlfilter.models.locate.vision_source`).
    """

    image_mode: str = "auto"
    caption_max_tokens: int = 512
    document_max_tokens: int = 4096
    max_images: int = 10
    vision: str = "auto"


@dataclass(frozen=True, slots=True)
class _Payload:
    """Holds no decoded image: hundreds of samples wait for their batch at a time."""

    ids: np.ndarray  # (L,) int64, IMAGE where an image stands
    pixels: list[np.ndarray]  # (H, W, 3) uint8 each
    dropped_images: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class UniFilterPreparer:
    """Of a loaded model."""

    name: str
    tokenizer: TextTokenizer
    images: ImageSettings
    image_tokens: int
    limits: TextLimits
    original: bool

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        sequence = self._sequence(content)
        pixels = [to_pixels(image, self.images) for image in sequence.images]
        ids = np.array(sequence.ids, dtype=np.int64)
        tokens = len(ids) + len(pixels) * (self.image_tokens - 1)
        return Prepared(tokens, _Payload(ids, pixels, sequence.dropped_images, sequence.truncated))

    def _sequence(self, content: ImageText | Interleaved) -> TokenSequence:
        if isinstance(content, ImageText):
            if self.original:
                return original_caption_sequence(content, self.tokenizer)
            return caption_sequence(content, self.tokenizer, self.limits)
        if self.original:
            return original_document_sequence(content, self.tokenizer)
        return document_sequence(content, self.tokenizer, self.limits, self.image_tokens)


class UniFilter:
    """Scores `ImageText` and `Interleaved` content.

    `quality_score`: the logit of a regression head (0 easy negative … 3 positive), the probability of class 1 of two
    classes, or the expected level Σ i·p_i of more. `compat="original"` reproduces the published scripts: 75-column
    captions, softmax[:, 1] for any classes, the head in the model's dtype, the tower from where config.json names it.
    """

    name = "unifilter"
    columns = pa.schema(
        [
            pa.field("quality_score", pa.float32()),
            pa.field("quality_class", pa.int8()),
            pa.field("n_tokens", pa.int32()),
            pa.field("n_images", pa.int16()),
            pa.field("n_dropped_images", pa.int16()),
            pa.field("truncated", pa.bool_()),
        ]
    )

    def __init__(self, settings: ScorerSettings):
        self.settings = settings
        self.options = read_options(UniFilterOptions, settings.options, self.name)
        choose(self.name, "option image_mode", self.options.image_mode, ("auto", "squash", "pad"))
        choose(self.name, "option vision", self.options.vision, ("auto", "embedded", "hub"))
        choose(self.name, "compat", settings.compat, COMPAT)
        choose(self.name, "dtype", settings.dtype, DTYPES)
        self.original = settings.compat == "original"
        folder = local_folder(settings.model)
        if folder is not None:
            vision_source(folder, check_vlm_folder(folder), self._vision)
        self._loaded: LoadedVlm | None = None

    @property
    def _vision(self) -> VisionWeights:
        # the published scripts never read the embedded copy
        chosen: Any = "hub" if self.original and self.options.vision == "auto" else self.options.vision
        weights: VisionWeights = chosen
        return weights

    def fingerprint(self) -> dict[str, Any]:
        """`dtype` is as asked: `auto` is not resolved, so that a laptop and a GPU worker give the same answer."""
        folder = local_folder(self.settings.model)
        if folder is not None:
            vision = vision_source(folder, check_vlm_folder(folder), self._vision).digest()
        elif self._vision == "hub":
            tower = read_json(hub_file(self.settings.model, "config.json")).get("mm_vision_tower")
            vision = VisionSource(hub_name=str(tower)).digest()
        else:
            vision = self._vision  # what it comes to lies in the checkpoint, whose commit `model` holds
        return {
            "scorer": self.name,
            "code": CODE_VERSION,
            "model": model_digest(self.settings.model),
            "vision": vision,
            "dtype": self.settings.dtype,
            "compat": self.settings.compat,
            "options": asdict(self.options),
        }

    def load(self) -> None:
        import torch

        from vlfilter.models.startup import import_transformers

        import_transformers()
        from vlfilter.models.checkpoints import load_vlm
        from vlfilter.models.device import resolve_device, resolve_dtype

        device = resolve_device(self.settings.device)
        dtype = resolve_dtype(self.settings.dtype, device)
        loaded = load_vlm(
            str(model_folder(self.settings.model)),
            device=device,
            dtype=dtype,
            vision=self._vision,
            head_dtype=dtype if self.original else torch.float32,
        )
        mode = self.options.image_mode
        if mode == "auto" and not self.original:
            mode = str(loaded.config.published.get("mm_image_mode"))
        if mode == "pad":
            loaded = replace(loaded, images=replace(loaded.images, resize="pad"))
        self._limits = TextLimits(
            self.options.caption_max_tokens,
            min(self.options.document_max_tokens, loaded.config.max_length or self.options.document_max_tokens),
            self.options.max_images,
        )
        self._loaded = loaded

    @property
    def loaded(self) -> LoadedVlm:
        if self._loaded is None:
            raise VlfilterError("the unifilter scorer is not loaded: call load() first.")
        return self._loaded

    def preparer(self) -> UniFilterPreparer:
        loaded = self.loaded
        return UniFilterPreparer(
            self.name, loaded.tokenizer, loaded.images, loaded.model.image_tokens, self._limits, self.original
        )

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        return self.preparer().prepare(content)

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        return self.launch(batch)()

    def launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        import torch

        from vlfilter.models.device import download
        from vlfilter.models.preprocess import normalised_chunks

        loaded = self.loaded
        device = loaded.model.score.weight.device
        payloads: list[_Payload] = [prepared.payload for prepared in batch]
        with torch.inference_mode():
            pixels = [image for payload in payloads for image in payload.pixels]
            counts = [len(payload.pixels) for payload in payloads]
            chunks = normalised_chunks(pixels, loaded.images, str(device))
            images = torch.cat([loaded.model.encode_images(chunk) for chunk in chunks]).split(counts)
            ids = [torch.from_numpy(payload.ids) for payload in payloads]
            logits = download(loaded.model(ids, images, loaded.config.max_length if self.original else None))

        def finish() -> dict[str, Sequence[Any]]:
            scores, classes = quality(finite(logits()), self.original)
            return {
                "quality_score": scores.tolist(),
                "quality_class": classes.tolist(),
                "n_tokens": [prepared.tokens for prepared in batch],
                "n_images": counts,
                "n_dropped_images": [payload.dropped_images for payload in payloads],
                "truncated": [payload.truncated for payload in payloads],
            }

        return finish


def quality(logits: Any, original: bool) -> tuple[Any, Any]:
    """Logits (B, labels) → scores (B,) float32 and classes (B,) int64.

    One label: the logit, and its level round(clip(score, 0, 3)) with halves to even as the published metrics round
    (0.5 → 0, 1.5 → 2, 2.5 → 2). More: probabilities, and the likeliest class. The original stores softmax[:, 1] for any
    number of classes, which means nothing beyond two; by default they give the expected level Σ i·p_i.
    """
    import torch

    if logits.shape[1] == 1:
        scores = logits[:, 0].float()
        return scores, scores.clamp(0, 3).round().long()
    probabilities = logits.softmax(-1).float()
    if original or logits.shape[1] == 2:
        return probabilities[:, 1], logits.argmax(-1)
    levels = torch.arange(logits.shape[1], dtype=torch.float32)
    return probabilities @ levels, logits.argmax(-1)
