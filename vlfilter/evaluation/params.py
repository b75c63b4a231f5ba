"""What an evaluation is told: one model is its form in the UI, its YAML file and the command line's options."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from vlfilter.data.storage import join
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import TAG, Mode, Source
from vlfilter.evaluation.direct import MAX_TOKENS
from vlfilter.evaluation.model import ModelSettings
from vlfilter.evaluation.run import RunSettings
from vlfilter.forms import Device, Dtype, Form, ImageMode, Step, parse_form
from vlfilter.llm.form import AskStep
from vlfilter.llm.keys import VARIABLES


class BenchmarkStep(Step):
    """One benchmark: its published files, and the images."""

    benchmark: str = Field(
        description="seed, mmbench, okvqa, vizwiz, vsr, aokvqa, refcoco, or package.module:Class.", min_length=1
    )
    data: str = Field(description="The questions: a file, or the folder with the published files.", min_length=1)
    annotations: str = Field(default="", description="The right answers, where they are another file elsewhere.")
    images: str = Field(default="", description="The folder of the images; not for MMBench.")
    answers: str = Field(default="", description="Answers that exist already, in place of the model's: a result file.")
    allow_missing: bool = Field(default=False, description="Questions that `answers` leaves out count as wrong.")


class EvaluateParams(Form):
    """Some benchmarks, and the model or the answers that they are about."""

    output: str = Field(description="A folder for all results, one below it a benchmark.", min_length=1)
    benchmarks: list[BenchmarkStep] = Field(description="Each with its files.", min_length=1)
    model: str = Field(
        default="",
        description="A folder or hub name, or openai:NAME (a server, with base_url); empty where answers exist.",
    )
    model_id: str = Field(default="", description="The model's name in files and tables; empty: the end of its own.")
    mode: Mode = Field(default="fixed", description="compat: files and prompts as published, with their defects.")
    plain_prompts: bool = Field(
        default=False, description="Without MiniGPT-v2's word [vqa], for models that have not learnt it."
    )
    answer_by: Literal["writing", "likelihood"] = Field(
        default="writing",
        description="likelihood: of multiple choice only, the option's letter that the model finds likeliest.",
    )
    max_tokens: int = Field(default=MAX_TOKENS, ge=1, description="Longest answer; more for models that think first.")

    base: str = Field(default="", description="The language model of a projector-only checkpoint.")
    template: str = Field(
        default="auto", description="auto: as trained; minigpt_v2_published: as published; or a template's name."
    )
    image_mode: ImageMode = "auto"
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_tokens: int = Field(default=8192, ge=1, description="Tokens in a forward pass, with padding and images.")
    shard: int = Field(default=512, ge=1, description="Questions in one table; a killed run goes on behind the last.")
    workers: int = Field(default=2, ge=1, le=256, description="Threads that read images.")

    server: AskStep = Field(default_factory=AskStep, description="Where and within which limits openai:NAME is asked.")
    gpu_deployment: str | None = Field(
        default=None,
        description="FLOW/DEPLOYMENT that runs the model on the GPU pool; empty: it runs here.",
        examples=["evaluate-gpu/main"],
    )

    @model_validator(mode="after")
    def _consistent(self) -> EvaluateParams:
        try:
            names = [find_benchmark(step.benchmark).name for step in self.benchmarks]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise VlfilterError(f"{twice} is given twice: their results would lie in one folder.")
            if not self.model and (open_ := [step.benchmark for step in self.benchmarks if not step.answers]):
                raise VlfilterError(f"neither a model nor answers are given for {', '.join(open_)}.")
            if self.served and self.answer_by == "likelihood":
                raise VlfilterError("a server does not tell likelihoods: answer_by writing.")
            if self.model and not self.served:
                self.model_settings()
        except VlfilterError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def served(self) -> bool:
        """Whether a server answers, and not a model in this process."""
        return self.model.partition(":")[0] in VARIABLES and ":" in self.model

    @property
    def name(self) -> str:
        """The model's name in files. The published scripts have one for all."""
        if self.mode == "compat":
            return self.model_id or "minigpt4-v2"
        return self.model_id or self.model.rstrip("/").rpartition("/")[2] or "given answers"

    @property
    def on_gpu(self) -> bool:
        """Whether a model has to run in this house at all."""
        return bool(self.model) and not self.served and any(not step.answers for step in self.benchmarks)

    def source(self, step: BenchmarkStep) -> Source:
        return Source(step.data, step.annotations, self.mode, "" if self.plain_prompts else TAG)

    def folder(self, step: BenchmarkStep) -> str:
        return join(self.output, find_benchmark(step.benchmark).name)

    def model_settings(self) -> ModelSettings:
        """Raises `VlfilterError` for a template that does not exist."""
        return ModelSettings(self.model, self.template, self.image_mode, self.base, self.device, self.dtype)

    def run_settings(self, step: BenchmarkStep) -> RunSettings:
        return RunSettings(step.images, self.shard, self.batch_tokens, self.workers)


def parse_params(fields: Any, origin: str) -> EvaluateParams:
    """Parameters from plain values. Raises `VlfilterError` with one line that names the place of the first mistake."""
    return parse_form(EvaluateParams, fields, origin)
