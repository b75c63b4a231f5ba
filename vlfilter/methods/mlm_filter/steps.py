"""The steps of MLM-Filter's flow as the user fills them in: forms, YAML and command line options alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from vlfilter.errors import VlfilterError
from vlfilter.forms import BatchTokens, Device, Dtype, Gpus, InFlight, Readers, Seed, Settings, Step
from vlfilter.llm.client import JudgeSettings
from vlfilter.llm.form import AskStep
from vlfilter.methods.mlm_filter.grading import GradeSettings
from vlfilter.methods.mlm_filter.sampling import SampleSettings
from vlfilter.scoring.mlm_filter_prompts import read_metrics
from vlfilter.selection.recipes import recipe

T = TypeVar("T")
BATCH_PAIRS = 10_000  # a vendor's batch takes a day at worst: all that fits goes into few of them


class SampleStep(Step):
    """Choose pairs, spread evenly over clusters of their captions."""

    shards: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="Image-text shards: a path, a glob, braces, a directory, an s3:// prefix, or a manifest file.",
        examples=["s3://bucket/cc12m/{00000..01242}.tar"],
    )
    pairs: int = Field(default=10_000, ge=1, description="Pairs that the teacher will grade (the paper's 10,000).")
    clusters: int = Field(default=100, ge=1, le=10_000, description="Clusters of captions to spread them over.")
    embedding_model: str | None = Field(
        default=None,
        description="A CLIP (folder, hub name or open_clip:…) whose text tower embeds the captions; empty: by words.",
    )
    device: Device = "auto"
    seed: int = Field(default=0, description="Another seed is another choice.")

    def settings(self) -> SampleSettings:
        return SampleSettings(self.pairs, self.clusters, self.seed, self.embedding_model, self.device)


class GradeStep(AskStep):
    """A teacher grades every chosen pair on every metric."""

    teacher: str = Field(description="openai:MODEL or anthropic:MODEL.", examples=["openai:gpt-4o"])
    metric: str = Field(default="all", description="all, or metrics joined by commas.")
    prompt_version: Literal[1, 2] | None = Field(
        default=None,
        description="Of the question's text: 1 as for the 13B (GPT-4V), 2 as for Qwen2.5-1.5B (GPT-4o); "
        "empty: that of the preset, or 2.",
    )
    view: Literal["image", "caption"] = Field(
        default="image", description="What the teacher sees: the image, or a description of it in words."
    )
    descriptions: str | None = Field(
        default=None, description="For the view `caption`: a JSON object from a pair's id or key to a description."
    )
    max_tokens: int = Field(default=1024, ge=1, description="Longest answer.")
    pairs: str | None = Field(default=None, description="A list of pairs from elsewhere, instead of the sample step's.")
    images: str | None = Field(default=None, description="The folder of those pairs' images.")

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        return as_value_error(lambda: (read_metrics(metric), metric)[1])

    @model_validator(mode="after")
    def _described(self) -> GradeStep:
        if self.view == "caption" and self.descriptions is None:
            raise ValueError("a teacher with the view `caption` needs `descriptions` of the images")
        if self.view == "image" and self.descriptions is not None:
            raise ValueError("`descriptions` are for the view `caption`")
        return self

    def settings(self, version: int) -> GradeSettings:
        return GradeSettings(
            teacher=self.name_of(self.teacher),
            metrics=read_metrics(self.metric),
            version=version,
            view=self.view,
            descriptions=self.descriptions,
            max_tokens=self.max_tokens,
            **({"at_once": BATCH_PAIRS} if self.batch else {}),
        )

    def judge(self, output: str) -> JudgeSettings:
        return self.asking(self.teacher, output)


class BalanceStep(Step):
    """Take every score as often as the others."""

    per_metric: int = Field(default=1000, ge=1, description="Rows of each metric (the paper's 4,000 in all).")
    seed: Seed = 0
    grades: str | None = Field(default=None, description="A grades file from elsewhere.")


class MixStep(Step):
    """Mix the graded pairs with general instructions."""

    data: str | None = Field(default=None, description="A LLaVA json, e.g. LLaVA-665k; empty: nothing is mixed in.")
    rows: int = Field(default=46_000, ge=0, description="Rows of it (the paper's 46,000).")
    images: str | None = Field(
        default=None, description="The folder of its images; it is linked as `general` into the run's image folder."
    )
    seed: Seed = 0
    balanced: str | None = Field(default=None, description="A balanced grades file from elsewhere.")
    output: str | None = Field(default=None, description="The json; empty: instructions.json below the output.")


class FinetuneStep(Step):
    """Fine-tune by a published recipe."""

    preset: str | None = Field(
        default=None, description="mlm_filter_13b, mlm_filter_qwen2.5_1.5b, …", examples=["mlm_filter_qwen2.5_1.5b"]
    )
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)
    data: str | None = Field(default=None, description="A LLaVA json from elsewhere.")
    images: str | None = Field(default=None, description="The folder that its image paths start from.")
    output: str | None = Field(
        default=None,
        description="Where the training goes, with the model in `model` below it; empty: `finetune` below the output.",
    )


class ScoreStep(Step):
    """Score shards with the fine-tuned model."""

    shards: str | Annotated[list[str], Field(min_length=1)] = Field(description="Tar shards, as for `sample`.")
    model: str | None = Field(default=None, description="A checkpoint from elsewhere (folder or hub name).")
    metric: str = Field(default="all", description="all, or metrics joined by commas.")
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_tokens: BatchTokens = 8192
    workers: Readers = 2
    shards_in_flight: InFlight = 2
    options: dict[str, Any] = Field(default_factory=dict, description="Further options of the scorer mlm_filter.")
    output: str | None = Field(default=None, description="Where the tables go; empty: `scores` below the output.")


class SelectStep(Step):
    """Choose samples by their scores."""

    recipe: str | None = Field(default=None, description="A published rule by name.", examples=["itm66_odf20"])
    where: str | None = Field(default=None, description="Or an expression over the score columns.")
    scores: str | None = Field(default=None, description="Score tables from elsewhere.")
    output: str | None = Field(default=None, description="FILE.npy, .parquet or .txt; empty: kept.npy in the output.")

    @model_validator(mode="after")
    def _one_rule(self) -> SelectStep:
        if (self.recipe is None) == (self.where is None):
            raise ValueError("give either recipe or where")
        if self.recipe is not None:
            as_value_error(lambda: recipe(self.recipe or ""))
        return self

    @property
    def rule(self) -> str:
        return self.where if self.where is not None else recipe(self.recipe or "").where


def as_value_error(check: Callable[[], T]) -> T:
    """Run a check for pydantic, which collects `ValueError`s and their places."""
    try:
        return check()
    except VlfilterError as error:
        raise ValueError(str(error)) from None
