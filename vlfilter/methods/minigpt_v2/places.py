"""Where the files of a run lie."""

from __future__ import annotations

from dataclasses import dataclass

from vlfilter.data.storage import join


@dataclass(frozen=True, slots=True)
class MinigptV2Places:
    mixture: str  # the data sets with absolute paths
    train: str  # the folder of the fine-tuning run
    model: str
    evaluation: str

    @classmethod
    def below(cls, output: str) -> MinigptV2Places:
        names = ("mixture.yaml", "train", "train/model", "evaluation")
        return cls(*(join(output, name) for name in names))
