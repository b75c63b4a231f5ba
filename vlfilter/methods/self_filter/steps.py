"""The steps of Self-Filter's flow as the user fills them in: forms, YAML and command line alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from vlfilter.errors import VlfilterError
from vlfilter.forms import Device, Gpus, Settings, Step
from vlfilter.llm.client import JudgeSettings
from vlfilter.llm.form import AskStep
from vlfilter.methods.self_filter import clip_features, judging, rewards
from vlfilter.methods.self_filter.budget import check_budget
from vlfilter.methods.self_filter.clip_features import ClipSettings
from vlfilter.methods.self_filter.judging import BATCH_SHARDS, JudgingSettings
from vlfilter.methods.self_filter.rewards import RewardSettings
from vlfilter.methods.self_filter.row_shards import ROWS_PER_SHARD
from vlfilter.methods.self_filter.selecting import SelectSettings

Kind = Literal["clip", "scores"]
Precision = Literal["float32", "bfloat16", "float16", "auto"]


class PreprocessStep(Step):
    """Number the instructions and make the texts that are encoded and judged."""

    annotations: str = Field(
        description="Instructions in LLaVA's format.", examples=["llava_instruct_158k.json"], min_length=1
    )
    rows_per_shard: int = Field(default=ROWS_PER_SHARD, ge=1, description="Rows in one file of all later steps.")


class FeaturesStep(Step):
    """Frozen features of every row: CLIP's vectors, or three scores. CLIP's are always made: neighbours need them."""

    kind: Kind = Field(default="clip", description="clip: 2 vectors a row. scores: CLIP score, ImageReward and judge.")
    clip_model: str = Field(default=clip_features.MODEL, description="CLIP by folder or hub name.")
    dtype: Literal["float16", "float32"] = Field(default="float16", description="What CLIP's vectors are stored in.")
    reward_model: str = Field(default=rewards.MODEL, description="For scores: ImageReward by folder or hub name.")
    normalise: Literal["minmax", "rank"] = Field(default="minmax", description="For scores: onto [-1, 1].")
    precision: Precision = Field(default="float32", description="What CLIP and ImageReward compute in.")
    device: Device = "auto"
    batch: int = Field(default=128, ge=1, description="Texts or images in one pass of CLIP.")
    batch_tokens: int = Field(default=8192, ge=1, description="Tokens in one pass of ImageReward; a pair has 232.")
    workers: int = Field(default=4, ge=1, le=256, description="Threads that read images.")

    def clip(self) -> ClipSettings:
        return ClipSettings(self.clip_model, self.dtype, self.precision, self.device, self.batch, self.workers)

    def reward(self) -> RewardSettings:
        return RewardSettings(self.reward_model, self.precision, self.device, self.batch_tokens, self.workers)


class JudgeStep(AskStep):
    """For scores: a judge reads every row's text and gives it 0 to 10."""

    model: str = Field(default=judging.MODEL, description="openai:MODEL or anthropic:MODEL.")
    parser: Literal["strict", "original"] = Field(default="strict", description="How answers are read.")
    max_tokens: int = Field(default=10, ge=1, description="Longest answer; the score comes first.")
    temperature: float | None = Field(default=0.0, ge=0, le=2, description="Empty: the vendor's own.")
    seed: int | None = Field(default=42, description="Sent to APIs that take one.")

    def judging(self) -> JudgingSettings:
        shards = BATCH_SHARDS if self.batch else 1
        return JudgingSettings(
            self.name_of(self.model), self.parser, self.temperature, self.seed, self.max_tokens, shards
        )

    def judge(self, output: str) -> JudgeSettings:
        return self.asking(self.model, output)


class Stage1Step(Step):
    """Train the model on all rows, together with the score net that weighs them."""

    preset: str | None = Field(
        default=None, description="self_filter_llava_7b, as published.", examples=["self_filter_llava_7b"]
    )
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)


class SelectStep(Step):
    """Difficulty of every row from the score net alone, then hard and diverse rows, one after the other."""

    model: str | None = Field(default=None, description="A score net from elsewhere: what stage 1 wrote, or published.")
    budget: int | float | str = Field(default=25_000, description="Rows to pick: a number, a fraction (0.15) or 15%.")
    gamma: float = Field(default=1.0, ge=0, description="How much a pick's neighbours are penalised; 0: not at all.")
    neighbours: int = Field(default=10, ge=0, description="How many of them.")
    penalty: Literal["literal", "offset_free"] = Field(
        default="literal", description="offset_free: a constant added to all difficulties changes nothing."
    )
    similarity: Literal["torch32", "canonical"] = Field(
        default="torch32", description="canonical: in float64, rounded; the same on every machine."
    )
    strict: bool = Field(default=False, description="Stop near the pool's end where the published script does.")
    skip_hardest: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the rows, the hardest, that are left out: many may be wrong."
    )

    @field_validator("budget")
    @classmethod
    def _means_something(cls, budget: int | float | str) -> int | float | str:
        try:
            check_budget(budget)
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return budget

    def selecting(self) -> SelectSettings:
        return SelectSettings(
            self.budget, self.gamma, self.neighbours, self.penalty, self.similarity, self.strict, self.skip_hardest
        )


class TuneStep(Step):
    """Instruction tuning on the chosen rows."""

    preset: str | None = Field(
        default=None,
        description="llava_7b_instruct (as published), or llava_1.5_7b_instruct.",
        examples=["llava_1.5_7b_instruct"],
    )
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)
