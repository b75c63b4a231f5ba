"""What Self-Filter's flow is told: one model is its form in the UI, its YAML file and the command line's options."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from vlfilter.errors import VlfilterError
from vlfilter.forms import Form, parse_form
from vlfilter.methods.self_filter.places import SelfFilterPlaces
from vlfilter.methods.self_filter.score_features import ScoreInputs
from vlfilter.methods.self_filter.steps import (
    FeaturesStep,
    JudgeStep,
    Kind,
    PreprocessStep,
    SelectStep,
    Stage1Step,
    TuneStep,
)
from vlfilter.training.settings import TrainSettings, train_settings

STEPS = ("preprocess", "features", "judge", "stage1", "select", "tune")
GPU_STEPS = ("features", "stage1", "tune")


class SelfFilterParams(Form):
    """Preprocess, features, judge, stage 1, select, tune: the steps that are given, in this order."""

    output: str = Field(description="A folder for all that the steps make, seen by all machines.", min_length=1)
    images: str | None = Field(
        default=None, description="The folder (or s3:// prefix) that the annotations' image paths start from."
    )
    kind: Kind | None = Field(
        default=None,
        description="Which features stage 1 and select read; empty: that of the step features, or clip.",
    )
    preprocess: PreprocessStep | None = None
    features: FeaturesStep | None = None
    judge: JudgeStep | None = None
    stage1: Stage1Step | None = None
    select: SelectStep | None = None
    tune: TuneStep | None = None
    gpu_deployment: str | None = Field(
        default=None,
        description="FLOW/DEPLOYMENT that runs features, stage1 and tune on the GPU pool; empty: they run here.",
        examples=["self-filter-gpu/main"],
    )

    @model_validator(mode="after")
    def _consistent(self) -> SelfFilterParams:
        if not any(getattr(self, name) for name in STEPS):
            raise ValueError(f"no step is given: {', '.join(STEPS)}")
        if self.images is None and any(getattr(self, name) for name in GPU_STEPS):
            raise ValueError("features, stage1 and tune need `images`, the folder that image paths start from")
        if self.features and self.kind not in (None, self.features.kind):
            raise ValueError(f"kind is {self.kind}, but the step features makes {self.features.kind}")
        try:
            self.co_training()
            self.tuning()
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def feature_kind(self) -> Kind:
        return self.kind or (self.features.kind if self.features else "clip")

    @property
    def places(self) -> SelfFilterPlaces:
        return SelfFilterPlaces.below(self.output)

    @property
    def image_folder(self) -> str:
        """Where images are; given wherever a step reads one."""
        return self.images or ""

    @property
    def weighed_by(self) -> str:
        """The features that the score net sees."""
        return self.places.clip if self.feature_kind == "clip" else self.places.scores

    @property
    def score_inputs(self) -> ScoreInputs:
        return ScoreInputs(self.places.clip, self.places.image_reward, self.places.judge)

    def only(self, *names: str) -> SelfFilterParams | None:
        """The same run with no steps but these; None where none of them is given."""
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        if not given:
            return None
        return SelfFilterParams(output=self.output, images=self.images, kind=self.feature_kind, **given)

    def co_training(self) -> TrainSettings | None:
        """Stage 1's settings. Raises `VlfilterError` for a preset or a setting that does not fit."""
        step = self.stage1
        if step is None:
            return None
        values = self._rows(self.places.annotations, self.places.stage1, step.gpus)
        values |= {"objective": "self_filter", "features": self.weighed_by}
        return train_settings(values | step.settings, step.preset)

    def tuning(self) -> TrainSettings | None:
        """The settings of tuning on the subset. Raises `VlfilterError` as `co_training`."""
        step = self.tune
        if step is None:
            return None
        values = self._rows(self.places.selected, self.places.tune, step.gpus)
        return train_settings(values | step.settings, step.preset)

    def _rows(self, data: str, output: str, gpus: int | None) -> dict[str, Any]:
        processes = {} if gpus is None else {"processes": gpus}
        return {"data": data, "images": self.image_folder, "output": output, **processes}


def parse_params(fields: Any, origin: str) -> SelfFilterParams:
    """Parameters from plain values. Raises `VlfilterError` with one line that names the place of the first mistake."""
    return parse_form(SelfFilterParams, fields, origin)
