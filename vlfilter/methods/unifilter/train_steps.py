"""The steps of UniFilter's flow after its data, as the user fills them in: forms, YAML and command line alike."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from vlfilter.errors import VlfilterError
from vlfilter.forms import BatchTokens, Device, Dtype, Gpus, InFlight, Readers, Settings, Step
from vlfilter.selection.recipes import recipe


class PretrainStep(Step):
    """Stage 1: train the projector alone, on images with captions."""

    data: str = Field(
        description="Captions in LLaVA's format, e.g. LLaVA-Pretrain's blip_laion_cc_sbu_558k.json.",
        examples=["blip_laion_cc_sbu_558k.json"],
    )
    images: str = Field(description="The folder that its image paths start from.")
    preset: str | None = Field(
        default=None,
        description="unifilter_qwen2.5_1.5b_projector, …_0.5b_projector or unifilter_qwen3_0.6b_projector.",
        examples=["unifilter_qwen2.5_1.5b_projector"],
    )
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)
    output: str | None = Field(
        default=None, description="Where the training goes, with mm_projector.bin in `model`; empty: `pretrain`."
    )


class TrainStep(Step):
    """Stage 2: train projector, language model and score head to tell the four levels."""

    preset: str | None = Field(
        default=None,
        description="unifilter_qwen2.5_1.5b, unifilter_qwen2.5_0.5b or unifilter_qwen3_0.6b.",
        examples=["unifilter_qwen2.5_1.5b"],
    )
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)
    data: str | None = Field(default=None, description="Quality rows from elsewhere, instead of synthesize's.")
    validation: str | None = Field(default=None, description="Their validation rows.")
    images: str | None = Field(default=None, description="The folder that their image paths start from.")
    projector: str | None = Field(
        default=None, description="A projector from elsewhere (mm_projector.bin, folder or hub name), not stage 1's."
    )
    output: str | None = Field(
        default=None, description="Where the training goes, with the classifier in `model`; empty: `train`."
    )


class ScoreStep(Step):
    """Score shards with the classifier."""

    shards: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="Shards of pairs or documents: a path, a glob, braces, a directory, an s3:// prefix, a manifest.",
        examples=["s3://bucket/datacomp/{00000..00127}.tar"],
    )
    model: str | None = Field(default=None, description="A classifier from elsewhere (folder or hub name).")
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_tokens: BatchTokens = 8192
    workers: Readers = 2
    shards_in_flight: InFlight = 2
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the scorer unifilter.")
    output: str | None = Field(default=None, description="Where the tables go; empty: `scores` below the output.")


class SelectStep(Step):
    """Choose samples by their scores: a recipe, an expression, a level or a fraction."""

    recipe: str | None = Field(default=None, description="A rule by name.", examples=["datacomp_unifilter_top30"])
    where: str | None = Field(default=None, description="Or an expression over the score columns.")
    level: int | None = Field(default=None, ge=0, le=3, description="Or all that are judged to be of this level up.")
    fraction: float | None = Field(default=None, gt=0, le=1, description="Or this share, the best first.")
    threshold: float | None = Field(default=None, description="Or every score from this on.")
    scores: str | None = Field(default=None, description="Score tables from elsewhere.")
    output: str | None = Field(default=None, description="FILE.npy, .parquet or .txt; empty: kept.npy in the output.")

    @model_validator(mode="after")
    def _one_rule(self) -> SelectStep:
        ways = ("recipe", "where", "level", "fraction", "threshold")
        if sum(getattr(self, way) is not None for way in ways) != 1:
            raise ValueError(f"give one of {', '.join(ways)}")
        try:
            _ = self.rule
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def rule(self) -> str:
        """The expression that it comes to."""
        if self.recipe is not None:
            return recipe(self.recipe).where
        if self.level is not None:
            return f"unifilter.quality_class >= {self.level}"
        if self.fraction is not None:
            return f"unifilter.quality_score >= top({100 * self.fraction:.10g}%)"
        if self.threshold is not None:
            return f"unifilter.quality_score >= {self.threshold!r}"
        return str(self.where)
