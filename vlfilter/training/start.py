"""What a fine-tuning starts from: a whole checkpoint, or a language model, a vision tower and a projector."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import CONFIG, WEIGHTS, A, check_adapter, is_adapter, read_adapter
from vlfilter.models.bodies import Head, head_of
from vlfilter.models.checkpoints import named_ours, open_vlm
from vlfilter.models.conversation import template
from vlfilter.models.folders import hub_file, is_hub_name, model_folder, read_json
from vlfilter.models.locate import PROJECTOR_NAMES, projector_file
from vlfilter.models.minigpt_v2 import read_checkpoint
from vlfilter.models.parts import Parts, open_parts
from vlfilter.models.preprocess import ImageSettings
from vlfilter.models.projectors import build_projector
from vlfilter.models.start_token import with_start_token
from vlfilter.models.tokenizer import TextTokenizer
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig
from vlfilter.models.weights import StoredTensor, check_fit, empty_parameters, open_weights
from vlfilter.training.conversation_data import ConversationEncoder
from vlfilter.training.lora import lora_config
from vlfilter.training.settings import TrainSettings


@dataclass(frozen=True)
class Start:
    """A model before training: its `tensors` by our names, each read when asked for, and the `adapter` that LoRA goes
    on from, where it does."""

    config: VlmConfig
    tokenizer: TextTokenizer
    images: ImageSettings
    tensors: dict[str, StoredTensor]
    adapter: dict[str, Tensor] = field(default_factory=dict)


def open_start(settings: TrainSettings) -> Start:
    """Look into what the settings start from; no weights are read. Raises `VlfilterError` for what does not fit."""
    start = _from_checkpoint(settings) if settings.model else _from_parts(settings)
    if settings.adapter:
        start = _with_adapter(start, settings)
    if settings.objective == "classifier":
        start = _as_classifier(start, settings)
    if settings.objective == "classifier" or settings.bos == "always":
        body = start.config.body
        names = start.config.published.get("bos_token_id", body.bos_token_id)
        tokenizer = with_start_token(start.tokenizer, settings.start_token, names, int(body.vocab_size))
        start = replace(start, tokenizer=tokenizer)
    aspect = "pad" if settings.image_mode == "pad" else "square"  # LLaVA's name for not padding
    config = replace(
        start.config,
        max_length=settings.max_length,
        published={**start.config.published, "image_aspect_ratio": aspect, **_trained_as(settings)},
    )
    if len(start.tokenizer.hf) > int(config.body.vocab_size):
        raise VlfilterError(
            f"the tokenizer has {len(start.tokenizer.hf)} tokens, but the language model only "
            f"{config.body.vocab_size}: they do not belong together."
        )
    longest = int(getattr(config.body, "max_position_embeddings", settings.max_length))
    if settings.max_length > longest:
        raise VlfilterError(f"max_length {settings.max_length} is beyond the language model's {longest} positions.")
    images = start.images
    if settings.image_mode != "processor":
        images = replace(images, resize=settings.image_mode)
    return replace(start, config=config, images=images)


def build_empty(start: Start, attention: str, origin: str) -> VisionLanguageModel:
    """The model on the meta device. Raises `VlfilterError` for tensors that do not fit it.

    Build it before the TrainingArguments: with ZeRO-3 transformers itself shards what is built after them.
    """
    with empty_parameters():
        vlm = VisionLanguageModel(start.config, attention)
    check_fit(vlm, start.tensors, origin)
    return vlm


def _trained_as(settings: TrainSettings) -> dict[str, str]:
    """Our own additions to config.json, which scorers follow: published scoring ignores how a model was trained."""
    words = {} if settings.objective == "classifier" else {"mm_conversation_template": settings.template}
    return {"mm_image_mode": settings.image_mode, **words}


def make_encoder(start: Start, settings: TrainSettings, image_tokens: int) -> ConversationEncoder:
    """What writes samples for this model, whose images take `image_tokens` positions.

    Raises `VlfilterError` for a template or a bos that the tokenizer cannot write.
    """
    tokenizer = start.tokenizer
    bos = tokenizer.automatic_bos if settings.bos == "automatic" else tokenizer.start
    return ConversationEncoder(tokenizer, template(settings.template), bos, image_tokens, settings.max_length)


def _from_checkpoint(settings: TrainSettings) -> Start:
    model = str(settings.model)
    classifier = settings.objective == "classifier"
    # a classifier may start from a language model, or go on from another classifier
    head: Head = head_of(read_json(model_folder(model) / "config.json")) if classifier else "lm"
    opened = open_vlm(model, head=head)
    return Start(opened.config, opened.tokenizer, opened.images, opened.tensors)


def _as_classifier(start: Start, settings: TrainSettings) -> Start:
    """The model with a score head: its own where it has one of the same width, else a new one (std 0.02)."""
    config = replace(start.config, head="score", num_labels=settings.labels)
    tensors = {name: stored for name, stored in start.tensors.items() if name != "lm_head.weight"}
    shape = (settings.labels, int(config.body.hidden_size))
    if "score.weight" not in tensors or tensors["score.weight"].shape != shape:
        weight = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(settings.seed))
        tensors["score.weight"] = StoredTensor(shape, lambda: weight)
    return replace(start, config=config, tensors=tensors)


def _from_parts(settings: TrainSettings) -> Start:
    opened = open_parts(
        Parts(
            str(settings.language_model), str(settings.vision_tower), settings.projector_kind, settings.image_tokens,
            settings.select_layer, settings.select_feature, settings.image_size,
            tower_apart=settings.trainable == "projector" or ("lora" in settings.trainable and not settings.merge_lora),
        )
    )  # fmt: skip
    start = Start(opened.config, opened.tokenizer, opened.images, opened.tensors)
    if settings.projector:
        return replace(start, tensors=start.tensors | _stored_projector(settings.projector))
    return replace(start, tensors=start.tensors | _new_projector(start.config, settings.seed))


def _with_adapter(start: Start, settings: TrainSettings) -> Start:
    """With the adapter's LoRA, and with its projector where none was given."""
    files = adapter_files(str(settings.adapter))
    place = files[0]
    own: dict[str, StoredTensor] = {}
    if place.name != CONFIG:
        found = read_checkpoint(place, start.config)
        adapter, own = found.adapter, found.rest
    else:
        adapter = read_adapter(place.parent)
        own = named_ours(open_weights(files[2:]))
    theirs, ours = adapter.config, lora_config(settings)
    if ours is not None and (theirs.r, theirs.alpha, set(theirs.targets)) != (ours.r, ours.alpha, set(ours.targets)):
        told, asked = (f"r {c.r}, alpha {c.alpha:g}, targets {', '.join(sorted(c.targets))}" for c in (theirs, ours))
        raise VlfilterError(f"{settings.adapter} has LoRA of {told}; the settings say {asked}. It goes on as it began.")
    shapes = {name: stored.shape for name, stored in start.tensors.items()}
    check_adapter(adapter.tensors, shapes, str(settings.adapter))
    layers = {name.removesuffix(".weight") for name in shapes if name.startswith("body.") and name.endswith(".weight")}
    beside = {layer for layer in layers if layer.rpartition(".")[2] in theirs.targets}
    if lacking := sorted(layer for layer in beside if f"{layer}.{A}" not in adapter.tensors):
        raise VlfilterError(f"{settings.adapter} has no adapter beside {', '.join(lacking)}.")
    if settings.projector:
        own = {name: stored for name, stored in own.items() if not name.startswith("projector.")}
    return replace(start, tensors=start.tensors | own, adapter=adapter.tensors)


def adapter_files(adapter: str) -> list[Path]:
    """The files of an adapter: a MiniGPT-v2 checkpoint, or its configuration, its weights, and its projector if it has
    one. Raises `VlfilterError` where there are none."""
    path = Path(adapter).expanduser()
    if path.is_file():
        return [path]
    if not is_adapter(path):
        raise VlfilterError(f"the adapter {adapter} is neither a file nor a folder with {CONFIG} and {WEIGHTS}.")
    projectors = [path / name for name in PROJECTOR_NAMES if (path / name).is_file()]
    return [path / CONFIG, path / WEIGHTS, *projectors[:1]]


def projector_path(projector: str) -> Path:
    """The file of a pretrained projector, given as a file, a folder or a hub name."""
    path = Path(projector).expanduser()
    if path.is_file():
        return path
    return (
        hub_file(projector, PROJECTOR_NAMES[0]) if is_hub_name(projector) else projector_file(model_folder(projector))
    )


def _stored_projector(projector: str) -> dict[str, StoredTensor]:
    return named_ours(open_weights([projector_path(projector)]))


def _new_projector(config: VlmConfig, seed: int) -> dict[str, StoredTensor]:
    """A projector with torch's own random weights (as LLaVA's stage 1 starts), the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_projector(config.projector, int(config.vision.hidden_size), int(config.body.hidden_size))
    return {
        f"projector.{name}": StoredTensor(tuple(tensor.shape), lambda tensor=tensor: tensor)  # type: ignore[misc]
        for name, tensor in module.state_dict().items()
    }
