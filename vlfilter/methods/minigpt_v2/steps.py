"""The steps of MiniGPT-v2's flow as the user fills them in: forms, YAML and command line options alike."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from vlfilter.evaluation.params import BenchmarkStep
from vlfilter.forms import Gpus, Settings, Step


class CheckStep(Step):
    """Look at every data set before a GPU is taken."""

    samples: int = Field(default=3, ge=0, le=1000, description="Rows of each data set that are read with their image.")


class TrainStep(Step):
    """Fine-tune by a published recipe."""

    preset: str | None = Field(default="minigpt_v2_dataengine", description="A recipe, or minigpt_v2_tiny.")
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)


class EvaluateStep(Step):
    """Evaluate on benchmarks."""

    benchmarks: Annotated[list[BenchmarkStep], Field(description="Each with its files.", min_length=1)]
    model: str | None = Field(default=None, description="A model from elsewhere; empty: the one that is fine-tuned.")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of an evaluation, as the flow evaluate has them.",
        examples=[{"mode": "compat", "dtype": "float16"}],
    )
