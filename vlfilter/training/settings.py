"""What a fine-tuning run is told: one model for the UI's form, the command line and YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vlfilter.data.storage import is_local
from vlfilter.errors import VlfilterError
from vlfilter.training.recipes import RECIPES

# how a run is carried out: a finished model does not depend on these (beyond rounding)
MACHINE_FIELDS = {
    "device",
    "processes",
    "zero",
    "per_device_batch",
    "data_workers",
    "gradient_checkpointing",
    "eval_batch",
}
# what may change while a run is under way
FREE_FIELDS = {"output", "data_workers", "report_to", "save_steps", "save_total_limit", "bad_rows"}

SELF_FILTER_FIELDS = ("sample_loss", "softmax_scope", "score_dtype", "score_learning_rate")
MIXTURE_FIELDS = ("iters_per_epoch", "draws")
WARMUP_COSINE_FIELDS = ("warmup_steps", "warmup_learning_rate", "min_learning_rate")
LORA_FIELDS = ("adapter", "lora_r", "lora_alpha", "lora_dropout", "lora_targets", "merge_lora")

ALONE = (
    "a sample is weighed against those of its batch: alone its weight is always 1, and the score net would learn "
    "nothing (accumulating batches does not help). Give per_device_batch 2 or more (the published runs have 16), or "
    "softmax_scope global with two processes or more."
)


class TrainSettings(BaseModel):
    """Fine-tune a vision-language model on conversations about images (MLM-Filter, arXiv 2403.02677, and LLaVA-1.5), to
    tell four levels of quality (UniFilter, arXiv 2510.15162), or together with a score net that learns which
    conversations are difficult (Self-Filter's stage 1, arXiv 2402.12501).

    It starts from a whole checkpoint (`model`), or from a language model, a vision tower and a projector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Literal["conversation", "classifier", "self_filter"] = Field(
        default="conversation",
        description="Learn conversations' answers, the levels of quality rows, or answers weighed by a score net.",
    )
    data: str | None = Field(
        default=None,
        description="Conversations in LLaVA's JSON format, or quality rows in UniFilter's.",
        examples=["instructions.json"],
    )
    mixture: str | None = Field(
        default=None,
        description="Or several data sets, drawn by ratio: a YAML file with one entry each.",
        examples=["mixture.yaml"],
    )
    validation: str | None = Field(
        default=None, description="Classifier: quality rows that decide, after each epoch, which model is kept."
    )
    features: str | None = Field(
        default=None,
        description="Self-Filter: the rows' features, as `vlfilter self-filter features` writes them, or an .npz file.",
    )
    images: str | None = Field(
        default=None, description="The folder (or s3:// prefix) that the rows' image paths start from."
    )
    output: str = Field(description="A local folder for the model, its checkpoints, the loss curve and the log.")

    model: str | None = Field(default=None, description="Start from this checkpoint in the published layout.")
    language_model: str | None = Field(default=None, description="Or from this language model (folder or hub name),")
    vision_tower: str | None = Field(
        default=None, description="this vision tower (folder or hub name, or EVA's eva_vit_g.pth),"
    )
    image_size: int | None = Field(
        default=None, ge=1, description="EVA's file: pixels of an image's side, by default those that it is for."
    )
    projector: str | None = Field(
        default=None, description="and this projector: mm_projector.bin, or the folder or hub name that has it."
    )
    adapter: str | None = Field(
        default=None,
        description="LoRA: go on from this adapter (a folder, or a MiniGPT-v2 checkpoint), and from its projector.",
    )
    projector_kind: str = Field(default="mlp2x_gelu", description="linear, mlp2x_gelu, concat4 or aapool_mlp.")
    image_tokens: int = Field(default=144, ge=1, description="Tokens of an image after aapool_mlp.")
    select_layer: int = Field(default=-2, description="Which layer of the vision tower is read; -1 is the last.")
    select_feature: Literal["patch", "cls_patch"] = Field(
        default="patch", description="Which of its outputs: the patches', or the class token's too."
    )

    labels: Literal[1, 4] = Field(
        default=1, description="Classifier: 1 learns the level as a number (squared error), 4 as a class."
    )
    sample_loss: Literal["token_sum", "sample_mean"] = Field(
        default="token_sum",
        description="Self-Filter: a sample's loss is the sum over its answers, as published, or their mean.",
    )
    softmax_scope: Literal["local", "global"] = Field(
        default="local",
        description="Self-Filter: samples are weighed against those of the same process, as published, or of all.",
    )
    score_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="Self-Filter: what scores and weights are computed in; auto is as the model, as published.",
    )
    score_learning_rate: float | None = Field(
        default=None, gt=0, description="Self-Filter: the score net's own rate; by default the model's, as published."
    )
    template: str = Field(default="vicuna_v1", description="Conversation template, as `vlfilter score` knows them.")
    bos: Literal["automatic", "always"] = Field(
        default="automatic",
        description="Begin a sample with bos where the tokenizer itself does (so it is scored), or always.",
    )
    start_token: str | None = Field(
        default=None,
        description="What sequences start with where they must and the tokenizer has no bos; empty: the token that the "
        "language model's config.json names.",
    )
    image_mode: Literal["pad", "squash", "processor"] = Field(
        default="pad", description="Pad to a square, ignore the aspect ratio, or do as the tower's processor does."
    )
    max_length: int = Field(default=2048, ge=8, description="Longest sequence, the image's positions included.")

    trainable: Literal["projector", "language+projector", "lora", "lora+projector"] = Field(
        default="language+projector", description="lora: small matrices beside the language model's, which stays."
    )
    lora_r: int = Field(default=8, ge=1, description="LoRA: the rank.")
    lora_alpha: float = Field(default=16, gt=0, description="LoRA: over the rank, what the matrices' product counts.")
    lora_dropout: float = Field(default=0.05, ge=0, lt=1, description="LoRA: share of its inputs that are dropped.")
    lora_targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj"), min_length=1, description="LoRA: the layers beside which it stands."
    )
    merge_lora: bool = Field(
        default=True, description="LoRA: write a whole model with LoRA in it, or LoRA and projector alone."
    )
    epochs: int = Field(default=1, ge=1, description="Passes over the rows.")
    iters_per_epoch: int | None = Field(default=None, ge=1, description="Mixture: the steps that are called an epoch.")
    draws: int = Field(
        default=1,
        ge=1,
        description="Mixture: draws in a step, each of one data set; in the published runs every GPU drew for itself.",
    )
    batch_size: int = Field(default=128, ge=1, description="Samples in one optimiser step, over all processes.")
    per_device_batch: int = Field(
        default=4, ge=1, le=64, description="Samples that one process handles at once; the rest is accumulated."
    )
    eval_batch: int = Field(default=16, ge=1, description="Validation rows that one process handles at once.")
    learning_rate: float = Field(default=2e-5, gt=0, description="The highest of the schedule.")
    schedule: Literal["cosine", "constant", "warmup_cosine"] = Field(
        default="cosine",
        description="warmup_cosine: from warmup_learning_rate in warmup_steps, then down to min_learning_rate.",
    )
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Not for warmup_cosine.")
    warmup_steps: int = Field(default=0, ge=0, description="warmup_cosine: steps until the highest learning rate.")
    warmup_learning_rate: float = Field(default=0.0, ge=0, description="warmup_cosine: the learning rate at first.")
    min_learning_rate: float = Field(default=0.0, ge=0, description="warmup_cosine: the learning rate at the end.")
    weight_decay: float = Field(default=0.0, ge=0, description="Norms and biases are spared.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradients are clipped to this norm; 0: not at all.")
    group_by_modality_length: bool = Field(default=True, description="Batches of like kind and like length.")
    group_by_image: bool = Field(
        default=False,
        description="Classifier: the rows of an image stand together in a batch, which learns from what tells them "
        "apart; a small model learns several times as fast. Not published.",
    )
    gradient_checkpointing: bool = Field(default=True, description="Compute activations twice: less memory, more time.")
    seed: int = Field(default=42, description="Of all draws.")

    zero: Literal["none", "2", "3"] = Field(default="3", description="DeepSpeed's ZeRO stage.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU where there is one.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="auto is bfloat16 on CUDA and float32 on CPU; float16 (CUDA alone) scales the loss."
    )
    tf32: bool = Field(default=True, description="Let CUDA multiply float32 matrices in TF32.")
    processes: int | None = Field(default=None, ge=1, description="One a GPU; by default all GPUs, or one on CPU.")
    data_workers: int = Field(default=4, ge=0, description="Processes that decode images beside each trainer.")
    save_steps: int = Field(default=1000, ge=1, description="Steps between checkpoints to resume from.")
    save_total_limit: int = Field(default=1, ge=1, description="Checkpoints to keep.")
    bad_rows: float = Field(
        default=0.01, ge=0, le=1, description="Fraction of rows that may be skipped (missing or broken images)."
    )
    report_to: Literal["none", "wandb"] = Field(default="none", description="Where else the loss is shown.")

    @property
    def image_root(self) -> str:
        """`images`, where `data` is given."""
        return self.images or ""

    @field_validator("zero", mode="before")
    @classmethod
    def _stage(cls, zero: Any) -> Any:
        return str(zero) if isinstance(zero, int) else zero

    @model_validator(mode="before")
    @classmethod
    def _ungrouped(cls, values: Any) -> Any:
        """A mixture's batches are of one data set each: they are not made by length."""
        if isinstance(values, Mapping) and values.get("mixture") and "group_by_modality_length" not in values:
            return {**values, "group_by_modality_length": False}
        return values

    @model_validator(mode="after")
    def _drawn(self) -> TrainSettings:
        single = [name for name in ("data", "images") if getattr(self, name)]
        if self.mixture and single:
            raise ValueError(f"a mixture names its data sets' files: do not give {' and '.join(single)} beside it")
        if not self.mixture and len(single) < 2:
            raise ValueError("give data and images, or a mixture of data sets")
        if bool(self.mixture) != (self.iters_per_epoch is not None):
            raise ValueError(
                "a mixture is drawn from without end: give iters_per_epoch"
                if self.mixture
                else "iters_per_epoch is for a mixture; a file is gone through once in an epoch"
            )
        if self.mixture and self.objective != "conversation":
            raise ValueError("a mixture is for the objective conversation")
        if self.mixture and self.group_by_modality_length:
            raise ValueError("a mixture's batches are of one data set each: group_by_modality_length must be false")
        return self

    @model_validator(mode="after")
    def _used(self) -> TrainSettings:
        for fields, reason in unused_fields(self).items():
            if set_ := [name for name in fields if getattr(self, name) != _default(name)]:
                raise ValueError(f"{reason}: {', '.join(set_)}")
        lowest, name = max((self.warmup_learning_rate, "warmup"), (self.min_learning_rate, "min"))
        if lowest > self.learning_rate:
            raise ValueError(f"{name}_learning_rate {lowest} is above learning_rate {self.learning_rate}")
        if self.iters_per_epoch is not None and self.warmup_steps > self.iters_per_epoch:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} are more than the {self.iters_per_epoch} steps of an epoch "
                "(iters_per_epoch), in each of which the published warm-up would begin again: give fewer"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        parts = {"language_model": self.language_model, "vision_tower": self.vision_tower}
        classifier = self.objective == "classifier"
        if classifier != (self.validation is not None):
            raise ValueError(
                "a classifier needs validation rows: they decide which epoch's model is kept"
                if classifier
                else "validation rows are for the objective classifier"
            )
        weighted = self.objective == "self_filter"
        if weighted != (self.features is not None):
            raise ValueError(
                "the objective self_filter needs the features of its rows"
                if weighted
                else "features are for the objective self_filter"
            )
        if weighted and self.per_device_batch == 1 and self.softmax_scope == "local":
            raise ValueError(ALONE)
        if weighted and self.trainable != "language+projector":
            raise ValueError("the objective self_filter trains the language model: trainable is language+projector")
        if classifier and self.trainable != "language+projector":
            raise ValueError("a classifier's head must be trained: trainable is language+projector")
        if self.group_by_image and (self.group_by_modality_length or not classifier):
            raise ValueError("group_by_image is for the objective classifier, without group_by_modality_length")
        all_parts = {**parts, "image_size": self.image_size, "projector": self.projector}
        given = [name for name, value in all_parts.items() if value]
        if self.model and given:
            raise ValueError(f"model is a whole checkpoint: do not give {' and '.join(given)} beside it")
        if not self.model and not all(parts.values()):
            raise ValueError("give model, or language_model and vision_tower (and a projector)")
        if not self.model and not self.projector and not self.adapter and self.trainable != "projector":
            raise ValueError(
                "give the projector that was pretrained for this language model, or train one first "
                "(trainable: projector, or a recipe that ends in _projector)"
            )
        if not is_local(self.output):
            raise ValueError("output must be a local folder: checkpoints are written by several processes")
        return self


def unused_fields(settings: TrainSettings) -> dict[tuple[str, ...], str]:
    """Fields that mean nothing in these settings, and what they are for."""
    unused = {
        SELF_FILTER_FIELDS: ("for the objective self_filter only", settings.objective != "self_filter"),
        MIXTURE_FIELDS: ("for a mixture only", not settings.mixture),
        WARMUP_COSINE_FIELDS: ("for the schedule warmup_cosine only", settings.schedule != "warmup_cosine"),
        LORA_FIELDS: ("for trainable lora only", "lora" not in settings.trainable),
    }
    return {fields: reason for fields, (reason, never) in unused.items() if never}


def _default(name: str) -> Any:
    return TrainSettings.model_fields[name].default


def train_settings(values: Mapping[str, Any], recipe: str | None = None) -> TrainSettings:
    """Settings from a recipe's values and one's own over them. Raises `VlfilterError` saying what does not fit.

    A `model` of one's own takes the place of the recipe's language model, tower and projector.
    """
    if recipe is not None and recipe not in RECIPES:
        raise VlfilterError(f"no recipe is called {recipe!r}. There are: {', '.join(RECIPES)}.")
    start = dict(RECIPES[recipe]) if recipe else {}
    if values.get("data") and start.get("iters_per_epoch"):
        raise VlfilterError(f"the recipe {recipe} draws from a mixture: give mixture in place of data and images.")
    if values.get("model"):
        for part in ("language_model", "vision_tower", "image_size", "projector", "adapter"):
            start.pop(part, None)
    try:
        return TrainSettings.model_validate({**start, **values})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()]
        raise VlfilterError("the training settings do not fit: " + "; ".join(lines)) from None
