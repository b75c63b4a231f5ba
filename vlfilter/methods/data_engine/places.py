"""Where the files of a run lie."""

from __future__ import annotations

from dataclasses import dataclass

from vlfilter.data.storage import join


@dataclass(frozen=True, slots=True)
class RoundPlaces:
    """The files of one round, by the published names where there are such."""

    folder: str
    bad_cases: str
    weights: str
    prompts: str
    replies: str
    generated: str  # all rows that step 4 made of replies
    verdicts: str
    data: str  # the rows that are trained on
    gate: str
    mixture: str  # the base mixture and the rounds so far
    train: str
    model: str
    outcome: str


@dataclass(frozen=True, slots=True)
class DataEnginePlaces:
    """Every file and folder of a run below `output`."""

    output: str
    questions: str  # typed, as the pre-step writes them
    index: str
    base: str  # the training on the base mixture alone, where no model is given
    base_model: str

    @classmethod
    def below(cls, output: str) -> DataEnginePlaces:
        return cls(
            output=output,
            questions=join(output, "questions.json"),
            index=join(output, "index"),
            base=join(output, "base"),
            base_model=join(output, "base/model"),
        )

    def round(self, number: int) -> RoundPlaces:
        """Rounds are counted from 1."""
        folder = join(self.output, f"round_{number}")
        return RoundPlaces(
            folder=folder,
            bad_cases=join(folder, "bad_case_aokvqa_classified.json"),
            weights=join(folder, "weight.json"),
            prompts=join(folder, "gptvqa_prompt.json"),
            replies=join(folder, "gptvqa_result.jsonl"),
            generated=join(folder, "gptvqa_generated.json"),
            verdicts=join(folder, "verdicts.parquet"),
            data=join(folder, "gptvqa_train_data.json"),
            gate=join(folder, "gate.json"),
            mixture=join(folder, "mixture.yaml"),
            train=join(folder, "train"),
            model=join(folder, "train/model"),
            outcome=join(folder, "outcome.json"),
        )
