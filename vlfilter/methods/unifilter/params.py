"""What UniFilter's flow is told: one model is its form in the UI, its YAML file and the command line's options.

A step runs where its part is given. It takes what the step before it left in `output`, or the file that it is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from vlfilter.data.storage import join
from vlfilter.errors import VlfilterError
from vlfilter.forms import Form, parse_form
from vlfilter.methods.unifilter.synthesis import SynthesisPlaces, SynthesizeStep
from vlfilter.methods.unifilter.train_steps import PretrainStep, ScoreStep, SelectStep, TrainStep
from vlfilter.scoring.params import ScoreParams
from vlfilter.training.settings import TrainSettings, train_settings

STEPS = ("synthesize", "pretrain", "train", "score", "select")
GPU_STEPS = ("pretrain", "train", "score")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the steps after the data read and write."""

    pretraining: str
    training: str
    model: str
    scores: str
    kept: str


class UniFilterParams(Form):
    """Synthesize, pretrain, train, score, select: the steps that are given, in this order."""

    output: str = Field(description="A folder for all that the steps make, seen by all machines.", min_length=1)
    synthesize: SynthesizeStep | None = None
    pretrain: PretrainStep | None = None
    train: TrainStep | None = None
    score: ScoreStep | None = None
    select: SelectStep | None = None
    gpu_deployment: str | None = Field(
        default=None,
        description="FLOW/DEPLOYMENT that runs pretrain, train and score on the GPU pool; empty: they run here.",
        examples=["unifilter-gpu/main"],
    )

    @model_validator(mode="after")
    def _something(self) -> UniFilterParams:
        if not any(getattr(self, name) for name in STEPS):
            raise ValueError(f"no step is given: {', '.join(STEPS)}")
        try:
            self.pretraining()
            self.training()
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return self

    def only(self, *names: str) -> UniFilterParams | None:
        """The same run with no steps but these; None where none of them is given. Places stay as they are."""
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        if not given:
            return None
        places = self.places
        if self.train and "train" in given:
            given["train"] = self.train.model_copy(update=self._rows() | {"projector": self._projector()})
        if self.score and "score" in given:
            given["score"] = self.score.model_copy(update={"model": places.model})
        return UniFilterParams(output=self.output, **given)

    @property
    def places(self) -> Places:
        training = (self.train.output if self.train else None) or join(self.output, "train")
        scores = (self.score.output if self.score else None) or (self.select.scores if self.select else None)
        return Places(
            pretraining=(self.pretrain.output if self.pretrain else None) or join(self.output, "pretrain"),
            training=training,
            model=(self.score.model if self.score else None) or join(training, "model"),
            scores=scores or join(self.output, "scores"),
            kept=(self.select.output if self.select else None) or join(self.output, "kept.npy"),
        )

    def pretraining(self) -> TrainSettings | None:
        """Stage 1's settings. Raises `VlfilterError` for a preset or a setting that does not fit."""
        step = self.pretrain
        if step is None:
            return None
        values = {"data": step.data, "images": step.images, "output": self.places.pretraining}
        chosen = {"template": "plain", "trainable": "projector"} if step.preset is None else {}
        settings = train_settings(values | chosen | _gpus(step.gpus) | step.settings, step.preset)
        if settings.trainable != "projector":
            raise VlfilterError(
                f"pretrain: {step.preset or 'these settings'} trains more than the projector: take a preset that ends "
                "in _projector."
            )
        return settings

    def training(self) -> TrainSettings | None:
        """Stage 2's settings. Raises `VlfilterError` for a preset or a setting that does not fit."""
        step = self.train
        if step is None:
            return None
        projector = self._projector()
        values = {**self._rows(), "output": self.places.training, "objective": "classifier"}
        values |= {"projector": projector} if projector else {}
        return train_settings(values | _gpus(step.gpus) | step.settings, step.preset)

    def scoring(self) -> ScoreParams | None:
        step = self.score
        if step is None:
            return None
        return ScoreParams(
            shards=step.shards,
            output=self.places.scores,
            scorer=["unifilter"],
            model={"unifilter": self.places.model},
            device=step.device,
            dtype=step.dtype,
            batch_tokens=step.batch_tokens,
            workers=step.workers,
            shards_in_flight=step.shards_in_flight,
            options={"unifilter": step.options},
        )

    def _rows(self) -> dict[str, str]:
        assert self.train is not None
        made = SynthesisPlaces.below(self.output)
        return {
            "data": self.train.data or made.train,
            "validation": self.train.validation or made.validation,
            "images": self.train.images or made.images,
        }

    def _projector(self) -> str | None:
        assert self.train is not None
        if self.train.projector is None and self.pretrain is not None:
            return join(self.places.pretraining, "model")
        return self.train.projector


def parse_params(fields: Any, origin: str) -> UniFilterParams:
    """Parameters from plain values. Raises `VlfilterError` with one line that names the place of the first mistake."""
    return parse_form(UniFilterParams, fields, origin)


def _gpus(count: int | None) -> dict[str, int]:
    return {} if count is None else {"processes": count}
