"""The model under evaluation: loaded when the first question needs it, with the form of prompt that fits it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vlfilter.data.samples import SampleError, Status
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.prompts import Asked, PromptForm, PromptWriter, house_form, prompt_form
from vlfilter.models.bodies import body_kind
from vlfilter.models.conversation import template as find_template
from vlfilter.models.conversation import trained_template
from vlfilter.models.digests import model_digest
from vlfilter.models.folders import local_folder, read_json
from vlfilter.models.locate import vision_source
from vlfilter.models.preprocess import to_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from vlfilter.models.checkpoints import LoadedVlm
    from vlfilter.models.lanes import Row
    from vlfilter.models.vlm import VlmConfig

CODE_VERSION = 1  # raised by whoever changes an answer
CONVERSATION = "mm_conversation_template"  # in config.json, our addition: what the model was trained with
IMAGE_MODES = ("auto", "processor", "pad", "squash")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEFAULT_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`model` is a folder or hub name of a vision-language model with a language model's head, `base` the language
    model of a projector-only checkpoint. `template` is `auto` (as the checkpoint was trained) or a name in
    `prompts.FORMS`. `image_mode` is `auto` (as the checkpoint says that it was trained, else the processor's own),
    `processor`, `pad` or `squash`. `dtype` auto is bfloat16 where `device` says cuda, else float32."""

    model: str
    template: str = "auto"
    image_mode: str = "auto"
    base: str = ""
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.template != "auto":
            prompt_form(self.template)
        for name, value, known in (("image mode", self.image_mode, IMAGE_MODES), ("dtype", self.dtype, DTYPES)):
            if value not in known:
                raise VlfilterError(f"no {name} is called {value!r}. There are: {', '.join(known)}.")

    @property
    def number_format(self) -> str:
        """The dtype's name, told from the settings alone, so that all machines agree on it."""
        return self.dtype if self.dtype != "auto" else "bfloat16" if self.device.startswith("cuda") else "float32"


@dataclass(frozen=True, slots=True)
class Posed:
    """One question as tokens, and its image as pixels (H, W, 3) uint8."""

    asked: Asked
    pixels: np.ndarray


class EvaluatedModel:
    """Poses questions and runs them in batches. Threads may pose; the weights are loaded once, by whoever is first."""

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        self._lock = threading.Lock()
        self._loaded: LoadedVlm | None = None

    def fingerprint(self) -> dict[str, Any]:
        """All of the model that changes an answer."""
        return {
            "code": CODE_VERSION,
            "model": model_digest(self.settings.model),
            "base": model_digest(self.settings.base) if self.settings.base else "",
            **self._tower(),
            "template": self.settings.template,
            "image_mode": self.settings.image_mode,
            "dtype": self.settings.number_format,
        }

    def _tower(self) -> dict[str, str]:
        """The vision tower's digest, where it lies apart from the model, as it may beside a projector alone."""
        folder = local_folder(self.settings.model) if self.settings.base else None
        if folder is None:
            return {}
        return {"vision": vision_source(folder, read_json(folder / "config.json"), "auto").digest()}

    def load(self) -> None:
        """Bring the weights to the device, once. Raises `VlfilterError` when they cannot be loaded."""
        with self._lock:
            if self._loaded is None:
                self._load()

    @property
    def loaded(self) -> LoadedVlm:
        if self._loaded is None:
            raise VlfilterError("the model is not loaded: call load() first.")
        return self._loaded

    @property
    def writer(self) -> PromptWriter:
        """Of the loaded model."""
        return self._writer

    def writer_of(self, led: bool) -> PromptWriter:
        """The same; unless `led`, answers begin as the model likes."""
        return self._writer if led else self._free_writer

    def pose(self, asked: Asked, image: Image.Image, more: int = 0) -> Posed:
        """Raises `SampleError` when the longest lane and `more` tokens do not fit into the model's context."""
        loaded = self.loaded
        length = len(asked.prefix) + loaded.model.image_tokens - 1 + max(map(len, asked.lanes)) + more
        if length > self._context:
            raise SampleError(
                Status.TOO_LARGE, f"the question takes {length} tokens, the model's context is {self._context}"
            )
        return Posed(asked, to_pixels(image, loaded.images))

    def tokens(self, posed: Posed, more: int = 0) -> int:
        """Positions that a question takes in a batch."""
        lanes = sum(map(len, posed.asked.lanes)) + more * len(posed.asked.lanes)
        return len(posed.asked.prefix) + self.loaded.model.image_tokens - 1 + lanes

    def inputs(self, batch: Sequence[Posed]) -> tuple[list[Row], list[Tensor]]:
        """Rows and image vectors as `vlfilter.models.lanes` takes them; call it in inference mode.

        Rows with fewer lanes than others get lanes of one token; what comes of them is to be left out.
        """
        import torch

        from vlfilter.models.lanes import Row
        from vlfilter.models.preprocess import normalised_chunks

        loaded = self.loaded
        device = str(next(loaded.model.projector.parameters()).device)
        lanes = max(len(posed.asked.lanes) for posed in batch)
        rows = [
            Row(
                posed.asked.prefix, [*posed.asked.lanes, *[posed.asked.lanes[0][:1]] * (lanes - len(posed.asked.lanes))]
            )
            for posed in batch
        ]
        chunks = normalised_chunks([posed.pixels for posed in batch], loaded.images, device)
        vectors = torch.cat([loaded.model.encode_images(chunk) for chunk in chunks])
        return rows, list(vectors.split(1))

    def _load(self) -> None:
        from vlfilter.models.startup import import_transformers

        import_transformers()
        from vlfilter.models.checkpoints import load_vlm
        from vlfilter.models.device import resolve_device, resolve_dtype

        device = resolve_device(self.settings.device)
        dtype = resolve_dtype(self.settings.number_format, device)
        base = self.settings.base or None
        loaded = load_vlm(self.settings.model, head="lm", base=base, device=device, dtype=dtype)
        mode = self.settings.image_mode
        mode = str(loaded.config.published.get("mm_image_mode", "processor")) if mode == "auto" else mode
        images = loaded.images if mode == "processor" else replace(loaded.images, resize=mode)
        body = loaded.config.body
        context = loaded.config.max_length or int(getattr(body, "max_position_embeddings", DEFAULT_CONTEXT))
        self._context = min(context, getattr(body, "sliding_window", None) or context)
        form = self._form(loaded.config)
        self._writer = PromptWriter(loaded.tokenizer, form)
        self._free_writer = PromptWriter(loaded.tokenizer, form.unled())
        self._loaded = replace(loaded, images=images)

    def _form(self, config: VlmConfig) -> PromptForm:
        if self.settings.template != "auto":
            return prompt_form(self.settings.template)
        if CONVERSATION in config.published:
            return house_form(find_template(str(config.published[CONVERSATION])))
        kind = body_kind(config.published, self.settings.model)
        return house_form(trained_template(kind, int(config.body.vocab_size)))
