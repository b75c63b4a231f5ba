"""What the data engine's flow is told: one model is its form in the UI and its YAML file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field, model_validator

from vlfilter.errors import VlfilterError
from vlfilter.forms import Form, parse_form
from vlfilter.llm.client import JudgeSettings
from vlfilter.llm.form import AskStep
from vlfilter.methods.data_engine.places import DataEnginePlaces
from vlfilter.methods.data_engine.steps import (
    ClassifyStep,
    EvaluateStep,
    GateStep,
    GenerateStep,
    PostprocessStep,
    QueryStep,
    TrainStep,
    VerifyStep,
)
from vlfilter.training.settings import TrainSettings, train_settings

STEPS = ("classify", "evaluate", "query", "generate", "postprocess", "verify", "train")


class DataEngineParams(Form):
    """Classify once; then rounds of evaluate, query, generate, post-process, verify and train."""

    output: str = Field(description="A folder for all that the steps make, seen by all machines.", min_length=1)
    questions: str = Field(
        description="The benchmark, in A-OKVQA's format; with types already where there is no step classify.",
        examples=["aokvqa_v1p0_val.json"],
        min_length=1,
    )
    images: str = Field(description="The folder of the benchmark's images.", examples=["coco/val2017"], min_length=1)
    model: str | None = Field(
        default=None,
        description="The model of round 1, trained on the base mixture; empty: it is trained on that first.",
    )
    rounds: int = Field(default=2, ge=1, le=100, description="At most so many.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many rounds without gain; empty: never."
    )
    min_gain: float = Field(
        default=0.0, ge=0, lt=100, description="A gain is more than so many percentage points, on the held-out part."
    )
    max_usd: float | None = Field(
        default=None, ge=0, description="Hard limit on all that the run's ledger records, in all steps and rounds."
    )
    seed: int = Field(default=0, ge=0, description="Of all draws.")

    classify: ClassifyStep | None = None
    evaluate: EvaluateStep = Field(default_factory=EvaluateStep)
    query: QueryStep
    generate: GenerateStep
    postprocess: PostprocessStep = Field(default_factory=PostprocessStep)
    verify: VerifyStep | None = Field(
        default_factory=VerifyStep, description="Without judges only the rules look at the questions; null: nothing."
    )
    train: TrainStep
    gate: GateStep | None = Field(default=None, description="Wait for a person before each fine-tuning.")
    gpu_deployment: str | None = Field(
        default=None,
        description="FLOW/DEPLOYMENT that runs index, evaluation and training on the GPU pool; empty: they run here.",
        examples=["data-engine-gpu/main"],
    )

    @model_validator(mode="after")
    def _consistent(self) -> DataEngineParams:
        try:
            self.query.settings(self.seed)
            self.training(self.places.base, self.train.mixture)
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def places(self) -> DataEnginePlaces:
        return DataEnginePlaces.below(self.output)

    @property
    def typed_questions(self) -> str:
        return self.questions if self.classify is None else self.places.questions

    @property
    def index(self) -> str:
        return self.query.index or self.places.index

    def model_before(self, number: int) -> str:
        """The model that a round evaluates: the last round's, in the first one that of the base mixture."""
        if number > 1:
            return self.places.round(number - 1).model
        return self.model or self.places.base_model

    def mixture_before(self, number: int) -> str:
        return self.places.round(number - 1).mixture if number > 1 else self.train.mixture

    def seed_of(self, number: int) -> int:
        """Rounds draw differently."""
        return self.seed + number - 1

    def judge(self, step: AskStep, model: str) -> JudgeSettings:
        """Whom a step asks. All share one ledger, unless a step has a cache of its own."""
        settings = step.asking(model, self.output)
        return settings if step.max_usd is not None else replace(settings, max_usd=self.max_usd)

    def training(self, output: str, mixture: str) -> TrainSettings:
        """Raises `VlfilterError` for a preset or a setting that does not fit."""
        processes = {} if self.train.gpus is None else {"processes": self.train.gpus}
        values: dict[str, Any] = {"mixture": mixture, "output": output, **processes}
        return train_settings(values | self.train.settings, self.train.preset)


class EvaluateWork(Form):
    """One evaluation."""

    model: str = Field(description="A checkpoint.")
    questions: str = Field(description="In A-OKVQA's format, with types.")
    images: str = Field(description="The folder of their images.")
    output: str = Field(description="The round's folder.")
    seed: int = Field(description="Of the split.")
    step: EvaluateStep


class GpuWork(Form):
    """What the flow on the GPU pool does: one thing at a time."""

    name: str = Field(description="For people.")
    number: int = Field(default=0, description="The round; 0: before the rounds.")
    index: QueryStep | None = Field(default=None, description="Make the index of these images, at `output`.")
    evaluate: EvaluateWork | None = None
    train: TrainSettings | None = None
    output: str | None = Field(default=None, description="Of the index.")


def parse_params(fields: Any, origin: str) -> DataEngineParams:
    """Parameters from plain values. Raises `VlfilterError` with one line that names the place of the first mistake."""
    return parse_form(DataEngineParams, fields, origin)
