"""Synthetic data as one step: choose images → the teacher writes → keep what is fit, balanced and split.

Each part has its own file as the proof that it is done, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from vlfilter.data.storage import join
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.estimate import Estimate
from vlfilter.llm.form import AskStep
from vlfilter.methods.unifilter.choosing import ChoiceSettings, choose_images
from vlfilter.methods.unifilter.curating import CurateSettings, curate
from vlfilter.methods.unifilter.rules import TextRules
from vlfilter.methods.unifilter.writing import WriteSettings, requests_for, write_levels

TEACHER = "anthropic:claude-sonnet-5-5"  # the paper's Claude 3 and 3.5 Sonnet are no longer served
BATCH_ITEMS = 5_000  # a vendor's batch takes a day at worst: all that fits goes into few of them
Spec = str | Annotated[list[str], Field(min_length=1)]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SynthesisPlaces:
    """`train` and `validation` are rows in the published format, whose image paths start at `images`."""

    images: str
    items: str
    texts: str
    rejected: str
    train: str
    validation: str
    answers: str

    @classmethod
    def below(cls, output: str) -> SynthesisPlaces:
        return cls(
            images=join(output, "images"),
            items=join(output, "items.json"),
            texts=join(output, "texts.parquet"),
            rejected=join(output, "rejected.parquet"),
            train=join(output, "train.json"),
            validation=join(output, "validation.json"),
            answers=join(output, "answers"),
        )


class SynthesizeStep(AskStep):
    """A teacher writes captions and documents at four levels of quality for given images."""

    images: Spec | None = Field(
        default=None,
        description="Images to write captions for: image-text shards (path, glob, braces, directory, s3:// prefix, "
        "manifest) or a folder of image files; empty: no captions.",
        examples=["s3://bucket/datacomp/{00000..00127}.tar"],
    )
    captions: int = Field(default=10_000, ge=1, description="Images that get four captions each.")
    documents_from: Spec | None = Field(
        default=None,
        description="Image sets to write documents about: shards of documents (OBELICS), which keep their images, or "
        "as for `images`, of which sets are made; empty: no documents.",
    )
    documents: int = Field(default=10_000, ge=1, description="Sets that get four documents each.")
    set_size: int = Field(default=3, ge=1, le=10, description="Images in a set that is made of single images.")
    validation: float = Field(default=0.05, gt=0, lt=1, description="Share of the images that is kept for validation.")
    teacher: str = Field(default=TEACHER, description="anthropic:MODEL or openai:MODEL.")
    caption_tokens: int = Field(default=2048, ge=1, description="Longest answer about one image.")
    document_tokens: int = Field(default=8192, ge=1, description="Longest answer about a set.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="Empty: the vendor's own.")
    timeout_s: float = Field(default=300, gt=0, description="Seconds for one attempt.")
    duplicate: float = Field(
        default=0.8,
        ge=0.6,
        le=1,
        description="Jaccard similarity of three-word shingles from which on texts are duplicates.",
    )
    hard_overlap: float = Field(
        default=0.5, ge=0, le=1, description="Share of its words that a caption of level 2 has in common with level 3."
    )
    keep_incomplete: bool = Field(
        default=False, description="Keep the other texts of an image that lost one; else they go with it."
    )
    seed: int = Field(default=0, description="Of the choice, the split, the lengths and the balance.")

    @model_validator(mode="after")
    def _something(self) -> SynthesizeStep:
        if self.images is None and self.documents_from is None:
            raise ValueError("give images (for captions), documents_from (for documents), or both")
        return self

    def choosing(self) -> ChoiceSettings:
        return ChoiceSettings(
            self.images,
            self.captions,
            self.documents_from,
            self.documents,
            self.set_size,
            self.validation,
            self.seed,
        )

    def writing(self) -> WriteSettings:
        return WriteSettings(
            self.name_of(self.teacher),
            self.caption_tokens,
            self.document_tokens,
            self.temperature,
            self.seed,
            **({"at_once": BATCH_ITEMS} if self.batch else {}),
        )

    def judge(self, output: str) -> JudgeSettings:
        return self.asking(self.teacher, output)

    def curating(self) -> CurateSettings:
        rules = TextRules(duplicate=self.duplicate, hard_overlap=self.hard_overlap)
        return CurateSettings(rules, self.keep_incomplete, self.seed)


def choose(step: SynthesizeStep, output: str) -> dict[str, Any]:
    """First part: images in their folder and the list of items. Nothing is asked."""
    places = SynthesisPlaces.below(output)
    return choose_images(places.images, places.items, step.choosing())


def estimate(step: SynthesizeStep, output: str) -> Estimate:
    """What the second part would take now. Nothing is asked, no key is needed; the first part must be done."""
    places = SynthesisPlaces.below(output)
    with Judge(step.judge(output)) as judge:
        return judge.estimate(requests_for(places.items, places.images, places.texts, step.writing()))


def write(step: SynthesizeStep, output: str) -> dict[str, Any]:
    """Second part: the teacher's texts. Raises `BudgetExceededError`; what was answered is kept."""
    places = SynthesisPlaces.below(output)
    with Judge(step.judge(output)) as judge:
        return write_levels(places.items, places.images, places.texts, judge, step.writing())


def keep(step: SynthesizeStep, output: str) -> dict[str, Any]:
    """Third part: the rows to train and to validate on, and what was rejected."""
    places = SynthesisPlaces.below(output)
    return curate(places.texts, places.train, places.validation, places.rejected, step.curating())


def synthesize(step: SynthesizeStep, output: str) -> dict[str, dict[str, Any]]:
    """All three parts; their summaries by name. What is done already is not done again."""
    return {"choose": choose(step, output), "write": write(step, output), "keep": keep(step, output)}


def summary_lines(told: dict[str, dict[str, Any]]) -> list[str]:
    """For people: one line a part, and one for every kind's rejected texts."""
    chosen, written, kept = (told[name] for name in ("choose", "write", "keep"))
    lines = [
        f"{kind}: {part['chosen']} of {part['samples']} chosen"
        + (f" ({_listed(part['problems'])} without use)" if part["problems"] else "")
        for kind, part in chosen["kinds"].items()
    ]
    lines += [f"{path}" for part in chosen["kinds"].values() for path in part["broken_shards"]]
    lines.append(f"written: {_listed(written['texts'])}; ${written['usd']:.4f} for answers that were not cached")
    lines += [f"{kind}: rejected {_listed(counts) or 'nothing'}" for kind, counts in kept["rejected"].items()]
    lines += [f"{side}: {_listed(counts)} rows" for side, counts in kept["rows"].items()]
    return lines


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())
