"""What MiniGPT-v2's flow is told: one model is its form in the UI and its YAML file."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, model_validator

from vlfilter.errors import VlfilterError
from vlfilter.evaluation.params import EvaluateParams
from vlfilter.forms import Form, parse_form
from vlfilter.methods.minigpt_v2.mixtures import PUBLISHED
from vlfilter.methods.minigpt_v2.places import MinigptV2Places
from vlfilter.methods.minigpt_v2.steps import CheckStep, EvaluateStep, TrainStep
from vlfilter.training.settings import TrainSettings, train_settings

STEPS = ("train", "evaluate")


class MinigptV2Params(Form):
    """Check the data sets, fine-tune on their mixture, evaluate on benchmarks."""

    output: str = Field(description="A folder for all that the steps make, seen by all machines.", min_length=1)
    mixture: str = Field(
        default=PUBLISHED[0],
        description=f"The data sets: {', '.join(PUBLISHED)}, or a YAML file with one entry each.",
        min_length=1,
    )
    data: str | None = Field(
        default=None,
        description="The folder that the mixture's relative paths start from; empty: that of the YAML file.",
        examples=["train_dataset"],
    )
    check: CheckStep = Field(default_factory=CheckStep)
    train: TrainStep | None = None
    evaluate: EvaluateStep | None = None
    gpu_deployment: str | None = Field(
        default=None,
        description="FLOW/DEPLOYMENT that trains on the GPU pool; empty: it runs here.",
        examples=["minigpt-v2-gpu/main"],
    )

    @model_validator(mode="after")
    def _consistent(self) -> MinigptV2Params:
        if self.train is None and self.evaluate is None:
            raise ValueError("no step is given: train, evaluate")
        if self.train is not None and self.mixture in PUBLISHED and self.data is None:
            raise ValueError(f"data: say which folder the data sets of {self.mixture} lie in")
        if self.train is None and self.evaluate is not None and self.evaluate.model is None:
            raise ValueError("evaluate.model: without the step train, say which model is evaluated")
        try:
            self.training()
            self.evaluation()
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def places(self) -> MinigptV2Places:
        return MinigptV2Places.below(self.output)

    def training(self) -> TrainSettings | None:
        """Raises `VlfilterError` for a preset or a setting that does not fit."""
        if self.train is None:
            return None
        processes = {} if self.train.gpus is None else {"processes": self.train.gpus}
        values: dict[str, Any] = {"mixture": self.places.mixture, "output": self.places.train, **processes}
        return train_settings(values | self.train.settings, self.train.preset)

    def evaluation(self) -> EvaluateParams | None:
        """Of the model that is trained, or the one named. Raises `VlfilterError` for fields that do not fit."""
        step = self.evaluate
        if step is None:
            return None
        own = {
            "output": self.places.evaluation,
            "model": step.model or self.places.model,
            "benchmarks": [one.model_dump() for one in step.benchmarks],
        }
        try:
            return EvaluateParams.model_validate(own | step.settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise VlfilterError(f"evaluate.settings: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def parse_params(fields: Any, origin: str) -> MinigptV2Params:
    """Parameters from plain values. Raises `VlfilterError` with one line that names the place of the first mistake."""
    return parse_form(MinigptV2Params, fields, origin)
