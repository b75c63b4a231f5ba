"""What MLM-Filter's flow is told: one model is its form in the UI, its YAML file and the command line's options.

A step runs where its part is given. It takes what the step before it left in `output`, or the file that it is told.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from vlfilter.data.storage import join
from vlfilter.forms import Form, parse_form
from vlfilter.methods.mlm_filter.places import Places
from vlfilter.methods.mlm_filter.steps import (
    BalanceStep,
    FinetuneStep,
    GradeStep,
    MixStep,
    SampleStep,
    ScoreStep,
    SelectStep,
    as_value_error,
)
from vlfilter.scoring.mlm_filter_options import MlmFilterOptions
from vlfilter.scoring.mlm_filter_prompts import read_metrics
from vlfilter.scoring.options import read_options
from vlfilter.scoring.params import ScoreParams
from vlfilter.training.settings import TrainSettings, train_settings


class MlmFilterParams(Form):
    """Sample, grade, balance, mix, fine-tune, score, select: the steps that are given, in this order."""

    output: str = Field(description="A folder or an s3:// URL for all that the steps make.", min_length=1)
    sample: SampleStep | None = None
    grade: GradeStep | None = None
    balance: BalanceStep | None = None
    mix: MixStep | None = None
    finetune: FinetuneStep | None = None
    score: ScoreStep | None = None
    select: SelectStep | None = None

    @model_validator(mode="after")
    def _something(self) -> MlmFilterParams:
        if not any(getattr(self, name) for name in STEPS):
            raise ValueError(f"no step is given: {', '.join(STEPS)}")
        as_value_error(self.training)
        as_value_error(self.scoring)
        return self

    @property
    def places(self) -> Places:
        """Where every step reads and writes."""
        grade, balance, mix = self.grade, self.balance, self.mix
        finetune, score, select = self.finetune, self.score, self.select
        return Places.below(
            self.output,
            pairs=grade.pairs if grade else None,
            images=grade.images if grade else None,
            grades=balance.grades if balance else None,
            balanced=mix.balanced if mix else None,
            instructions=_first(finetune.data if finetune else None, mix.output if mix else None),
            training_images=_first(finetune.images if finetune else None, grade.images if grade else None),
            training=finetune.output if finetune else None,
            model=_first(score.model if score else None, _model_of(finetune.output if finetune else None)),
            scores=_first(score.output if score else None, select.scores if select else None),
            kept=select.output if select else None,
        )

    def training(self) -> TrainSettings | None:
        """Raises `VlfilterError` for a preset or a setting that does not fit."""
        if self.finetune is None:
            return None
        places = self.places
        values: dict[str, Any] = {
            "data": places.instructions,
            "images": places.training_images,
            "output": places.training,
            **({"processes": self.finetune.gpus} if self.finetune.gpus is not None else {}),
        }
        return train_settings(values | self.finetune.settings, self.finetune.preset)

    @property
    def version(self) -> int:
        """Of the question's text, for the teacher as for the student."""
        if self.grade is not None and self.grade.prompt_version is not None:
            return self.grade.prompt_version
        training = self.training()
        return 1 if training is not None and training.template == "vicuna_v1" else 2

    def scoring(self) -> ScoreParams | None:
        """A model that this run trains is asked as it was taught: same template, text, image mode, and no blank that
        was not there. Raises `VlfilterError` for a metric that MLM-Filter has not."""
        if self.score is None:
            return None
        step = self.score
        read_metrics(step.metric)
        read_options(MlmFilterOptions, step.options, "mlm_filter")  # not after a teacher and GPUs were paid for
        taught: dict[str, str] = {}
        training = self.training()
        if training is not None and step.model is None:
            mode = "pad" if training.image_mode == "pad" else "processor"
            taught = {"template": training.template, "image_mode": mode, "space": "trained"}
            if self.grade is not None:
                taught["prompt"] = str(self.version)
        return ScoreParams(
            shards=step.shards,
            output=self.places.scores,
            scorer=["mlm_filter"],
            model={"mlm_filter": self.places.model},
            device=step.device,
            dtype=step.dtype,
            batch_tokens=step.batch_tokens,
            workers=step.workers,
            shards_in_flight=step.shards_in_flight,
            options={"mlm_filter": {"metric": step.metric, **taught, **step.options}},
        )


STEPS = ("sample", "grade", "balance", "mix", "finetune", "score", "select")


def parse_params(fields: Any, origin: str) -> MlmFilterParams:
    """Parameters from plain values. Raises `VlfilterError` with one line that names the place of the first mistake."""
    return parse_form(MlmFilterParams, fields, origin)


def _model_of(training: str | None) -> str | None:
    return join(training, "model") if training else None


def _first(*places: str | None) -> str | None:
    return next((place for place in places if place), None)
