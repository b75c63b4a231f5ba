"""What a fine-tuning starts from: a whole checkpoint, or a language model, a vision tower and a projector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vlfilter.data.storage import absolute
from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import PUBLISHED, Head, architecture, head_of
from vlfilter.models.checkpoints import open_vlm, tower_tensors
from vlfilter.models.conversation import template
from vlfilter.models.folders import hub_file, is_hub_name, model_folder, read_json, weight_files
from vlfilter.models.layout import our_name, parse_config
from vlfilter.models.locate import PROJECTOR_NAMES, projector_file
from vlfilter.models.preprocess import ImageSettings, image_settings
from vlfilter.models.projectors import build_projector
from vlfilter.models.start_token import with_start_token
from vlfilter.models.tokenizer import TextTokenizer, load_tokenizer
from vlfilter.models.vision import vision_config
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig
from vlfilter.models.weights import StoredTensor, check_fit, empty_parameters, is_derived, open_weights
from vlfilter.training.conversation_data import ConversationEncoder
from vlfilter.training.settings import TrainSettings


@dataclass(frozen=True)
class Start:
    """A model before training: its `tensors` by our names, each read when asked for."""

    config: VlmConfig
    tokenizer: TextTokenizer
    images: ImageSettings
    tensors: dict[str, StoredTensor]


def open_start(settings: TrainSettings) -> Start:
    """Look into what the settings start from; no weights are read. Raises `VlfilterError` for what does not fit."""
    start = _from_checkpoint(settings) if settings.model else _from_parts(settings)
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
    language = model_folder(str(settings.language_model))
    tower_folder = model_folder(str(settings.vision_tower))
    vision = vision_config(read_json(tower_folder / "config.json"), str(tower_folder))
    images = image_settings(tower_folder, vision.model_type, int(vision.image_size))
    config = parse_config(_published(settings, language, vision), vision, str(language))
    tensors = {our_name(name): stored for name, stored in open_weights(weight_files(language)).items()}
    tensors = {name: stored for name, stored in tensors.items() if not is_derived(name)}
    if config.body.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)  # a copy of the embeddings
    projector = _stored_projector(settings.projector) if settings.projector else _new_projector(config, settings.seed)
    tensors |= projector | tower_tensors(tower_folder)
    return Start(config, load_tokenizer(language, needs_bos=False), images, tensors)


def _published(settings: TrainSettings, language: Path, vision: Any) -> dict[str, Any]:
    """The config.json that the published layout would have for these parts."""
    config = read_json(language / "config.json")
    kind = str(config.get("model_type"))
    if kind not in PUBLISHED:
        raise VlfilterError(f"{language} is a {kind} model; the language models are {', '.join(PUBLISHED)}.")
    tower = str(settings.vision_tower)
    # A whole model has the tower's weights, and a folder of this machine means nothing elsewhere.
    local = absolute(tower) if settings.trainable == "projector" else ""
    own = {
        "architectures": [architecture(kind, "lm")],
        "model_type": PUBLISHED[kind][1],
        "mm_hidden_size": vision.hidden_size,
        "mm_projector_type": settings.projector_kind,
        "mm_num_image_tokens": settings.image_tokens,
        "mm_vision_select_layer": settings.select_layer,
        "mm_vision_select_feature": settings.select_feature,
        "mm_vision_tower": tower if is_hub_name(tower) else local,
    }
    for field in ("torch_dtype", "dtype", "_name_or_path"):
        config.pop(field, None)
    return config | own


def projector_path(projector: str) -> Path:
    """The file of a pretrained projector, given as a file, a folder or a hub name."""
    path = Path(projector).expanduser()
    if path.is_file():
        return path
    return (
        hub_file(projector, PROJECTOR_NAMES[0]) if is_hub_name(projector) else projector_file(model_folder(projector))
    )


def _stored_projector(projector: str) -> dict[str, StoredTensor]:
    return {our_name(name): stored for name, stored in open_weights([projector_path(projector)]).items()}


def _new_projector(config: VlmConfig, seed: int) -> dict[str, StoredTensor]:
    """A projector with torch's own random weights (as LLaVA's stage 1 starts), the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_projector(config.projector, int(config.vision.hidden_size), int(config.body.hidden_size))
    return {
        f"projector.{name}": StoredTensor(tuple(tensor.shape), lambda tensor=tensor: tensor)  # type: ignore[misc]
        for name, tensor in module.state_dict().items()
    }
