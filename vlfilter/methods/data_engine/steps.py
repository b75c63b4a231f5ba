"""The steps of the data engine's flow as the user fills them in: forms, YAML and command line alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlfilter.data.vqa_formats import Format
from vlfilter.evaluation.model import ModelSettings
from vlfilter.evaluation.run import RunSettings
from vlfilter.forms import Device, Dtype, Gpus, ImageMode, Settings, Step
from vlfilter.llm.form import AskStep
from vlfilter.methods.data_engine.asking import Sampling
from vlfilter.methods.data_engine.bad_cases import SplitSettings
from vlfilter.methods.data_engine.evaluate import EvaluateSettings
from vlfilter.methods.data_engine.query import QuerySettings
from vlfilter.methods.data_engine.verdicts import VerifyRules
from vlfilter.methods.data_engine.verify import VerifySettings

CLIP = "openai/clip-vit-base-patch32"
Overlap = Literal["image_and_question", "image", "question_and_choices", "question", "none"]


class TeacherStep(AskStep):
    """A model is asked with the published sampling."""

    model: str = Field(default="openai:gpt-4", description="openai:MODEL or anthropic:MODEL.")
    max_tokens: int = Field(default=800, ge=1, description="Longest answer.")
    temperature: float | None = Field(default=0.7, ge=0, le=2, description="Empty: the vendor's own.")
    top_p: float | None = Field(default=0.9, gt=0, le=1, description="Empty: the vendor's own.")
    published_payload: bool = Field(default=False, description="Send the scripts' further parameters too, logit_bias.")

    def sampling(self) -> Sampling:
        return Sampling(self.max_tokens, self.temperature, self.top_p, published_extra=self.published_payload)


class ClassifyStep(TeacherStep):
    """Once, before the rounds: a judge says of every question which of the 18 types it is."""

    group: int = Field(default=50, ge=1, description="Questions in one prompt; those that got no type are asked again.")


class EvaluateStep(Step):
    """The model answers all questions: by the likelihood of their choices."""

    template: str = Field(default="auto", description="auto: as the checkpoint was trained; data_engine: as published.")
    image_mode: ImageMode = "auto"
    split: Literal["holdout", "original"] = Field(
        default="holdout", description="original: the questions that steer the engine are also those it reports."
    )
    holdout: float = Field(default=0.5, gt=0, lt=1, description="The share of the images whose questions report.")
    direct: bool = Field(default=False, description="Let it answer freely too, for the direct-answer score.")
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_tokens: int = Field(default=8192, ge=1, description="Tokens in a forward pass, with padding and images.")
    workers: int = Field(default=2, ge=1, le=256, description="Threads that read images.")

    def settings(self, model: str, images: str, seed: int) -> EvaluateSettings:
        return EvaluateSettings(
            ModelSettings(model, self.template, self.image_mode, device=self.device, dtype=self.dtype),
            RunSettings(images, batch_tokens=self.batch_tokens, workers=self.workers),
            SplitSettings(self.split, self.holdout, seed),
            self.direct,
        )


class QueryStep(Step):
    """Prompts for new questions like those that the model answers wrongly, about other images."""

    images: str = Field(description="The folder of images that are asked about.", examples=["coco/train2017"])
    annotations: str | None = Field(default=None, description="A COCO file that lists the folder's images and ids.")
    index: str | None = Field(
        default=None, description="Their index, or coco_image.pth; empty: it is made once, on the GPU pool."
    )
    clip_model: str = Field(default=CLIP, description="CLIP that makes the index, by folder or hub name.")
    captions: str | None = Field(default=None, description="captions_train2017.json.")
    instances: str | None = Field(default=None, description="instances_train2017.json.")
    regions: str | None = Field(default=None, description="For v2: Visual Genome's region_descriptions.json,")
    image_data: str | None = Field(default=None, description="its image_data.json,")
    ocr: str | None = Field(default=None, description="and lines of text in images: a list of {image_id, box, text}.")
    version: Literal["v1", "v2"] = Field(default="v1", description="The published way, or the later paper's, rebuilt.")
    maxnum: int = Field(default=6000, ge=1, description="Queries in a round.")
    topk: int = Field(default=1000, ge=1, description="Images near a bad case's among which one is drawn.")
    examples: int | None = Field(default=None, ge=1, description="For v2: bad cases shown in a query; empty: 10.")
    compat: bool = Field(default=False, description="The original's order of draws and its indentation.")
    fresh_images: bool = Field(default=True, description="Take no image that an earlier round has asked about.")
    device: Device = "auto"
    batch: int = Field(default=64, ge=1, description="Images in one pass of CLIP.")
    workers: int = Field(default=4, ge=1, le=256, description="Threads that read images.")

    def settings(self, seed: int) -> QuerySettings:
        """The bad cases' few images are embedded where there may be no GPU. Raises `VlfilterError` for values that do
        not go together."""
        device = "auto" if self.device.startswith("cuda") else self.device
        return QuerySettings(
            self.version, self.maxnum, self.topk, seed, self.examples, self.compat, self.clip_model, device
        )


class GenerateStep(TeacherStep):
    """The teacher writes a question, choices and an answer for every query."""


class PostprocessStep(Step):
    """Replies become rows in A-OKVQA's format."""

    mode: Literal["fixed", "compat"] = Field(default="fixed", description="compat: as the original, with its defects.")


class VerifyStep(AskStep):
    """Which of the new questions are right by the image, need it, are new, and do not hold their answer."""

    image_judge: str | None = Field(default=None, description="Answers with the image, blind; empty: nobody does.")
    text_judge: str | None = Field(default=None, description="Must not be able to answer without it; empty: nobody.")
    overlap: Overlap = Field(
        default="question_and_choices", description="The mildest overlap with the evaluation that drops a question."
    )
    keep_unsure: bool = Field(default=False, description="Keep what the image does not decide.")
    keep_text_answered: bool = Field(default=False, description="Keep what needs no image.")
    keep_duplicates: bool = Field(
        default=False, description="Keep what is like another one, here or in an earlier round."
    )
    keep_leaks: bool = Field(default=False, description="Keep what holds its answer.")
    keep_unanswered: bool = Field(default=False, description="Keep what a judge failed on.")
    similar: float = Field(default=0.8, ge=0.6, le=1, description="Similarity from which on two texts are the same.")
    max_tokens: int = Field(default=256, ge=1, description="Longest answer; more for models that think.")

    def rules(self) -> VerifyRules:
        return VerifyRules(
            image_unsure=not self.keep_unsure,
            text_answered=not self.keep_text_answered,
            duplicate=not self.keep_duplicates,
            overlap=None if self.overlap == "none" else self.overlap,
            leak=not self.keep_leaks,
            keep_unanswered=self.keep_unanswered,
        )

    def settings(
        self,
        images: str,
        evaluation: str,
        evaluation_images: str,
        earlier: tuple[str, ...],
        seed: int,
        labels: dict[str, str],
    ) -> VerifySettings:
        """`earlier` are the files of the rounds before."""
        return VerifySettings(
            images,
            image_judge=self.name_of(self.image_judge) if self.image_judge else None,
            text_judge=self.name_of(self.text_judge) if self.text_judge else None,
            evaluation=evaluation,
            evaluation_images=evaluation_images,
            earlier=earlier,
            rules=self.rules(),
            similar=self.similar,
            seed=seed,
            max_tokens=self.max_tokens,
            labels=labels,
        )


class TrainStep(Step):
    """Fine-tune from the start checkpoint, on the base mixture and the rows of all rounds so far."""

    mixture: str = Field(description="YAML file of the base data sets; each round is one more entry.")
    preset: str | None = Field(default=None, description="A recipe, such as data_engine_minigpt4_7b.")
    format: Format = Field(default="QM-A", description="The wording of the new rows' answers.")
    sample_ratio: float | None = Field(
        default=None, gt=0, description="How often a round's rows are drawn; empty: the square root of their number."
    )
    gpus: Gpus = None
    settings: Settings = Field(default_factory=dict)


class GateStep(Step):
    """The run waits before each fine-tuning until somebody has looked at a sample of the new questions."""

    sample: int = Field(default=20, ge=1, le=200, description="Rows shown.")
    hours: float = Field(default=24.0, gt=0, description="How long the run waits for an answer.")
    poll_s: int = Field(default=10, ge=1, description="Seconds between two looks whether there is one.")
