"""Where the files of a run lie."""

from __future__ import annotations

from dataclasses import dataclass

from vlfilter.data.storage import join


@dataclass(frozen=True, slots=True)
class SelfFilterPlaces:
    """Every file and folder that the steps read and write, as paths or URLs.

    A step that runs alone takes its own folder (`preprocess`, `clip`, …), so that its files may lie anywhere.
    """

    preprocess: str
    annotations: str  # the LLaVA list, each entry with unique_idx
    text_data: str  # {"<idx>": {"image", "text"}}
    rows: str  # the shards that later steps read
    clip: str
    clip_texts: str
    clip_images: str
    image_reward: str
    judge: str
    scores: str
    stage1: str  # the folder of the co-training run
    model: str  # what it made, the score net's weight beside it
    difficulty: str
    picks: str
    selected: str
    tune: str  # the folder of the tuning run on the subset

    @classmethod
    def below(cls, output: str) -> SelfFilterPlaces:
        """The usual names below `output`."""
        return cls(
            preprocess=join(output, "preprocess"),
            annotations=join(output, "preprocess/annotations.json"),
            text_data=join(output, "preprocess/text_data.json"),
            rows=join(output, "preprocess/rows"),
            clip=join(output, "features/clip"),
            clip_texts=join(output, "features/clip/texts"),
            clip_images=join(output, "features/clip/images"),
            image_reward=join(output, "features/image_reward"),
            judge=join(output, "features/judge"),
            scores=join(output, "features/scores"),
            stage1=join(output, "stage1"),
            model=join(output, "stage1/model"),
            difficulty=join(output, "difficulty.parquet"),
            picks=join(output, "picks.parquet"),
            selected=join(output, "selected.json"),
            tune=join(output, "tune"),
        )
