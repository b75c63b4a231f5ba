"""Where the files of a run lie."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vlfilter.data.storage import absolute, filesystem, is_local, join
from vlfilter.errors import VlfilterError

GENERAL = "general"  # the folder below the image folder where the mixed-in rows' images are


@dataclass(frozen=True, slots=True)
class Places:
    """Every file and folder that the steps read and write."""

    captions: str
    pairs: str
    images: str
    grades: str
    balanced: str
    instructions: str
    training_images: str
    training: str  # the folder of the fine-tuning run
    model: str
    scores: str
    kept: str

    @classmethod
    def below(cls, output: str, **given: str | None) -> Places:
        """The usual names below `output`; `given` overrules those that are not None."""
        names = {
            "captions": "captions.parquet",
            "pairs": "pairs.json",
            "images": "images",
            "grades": "grades.parquet",
            "balanced": "balanced.parquet",
            "instructions": "instructions.json",
            "training_images": "images",
            "training": "finetune",
            "model": "finetune/model",
            "scores": "scores",
            "kept": "kept.npy",
        }
        usual = {name: join(output, file) for name, file in names.items()}
        return cls(**usual | {name: place for name, place in given.items() if place})


def link_general_images(images: str, folder: str | None) -> str:
    """Make `folder` reachable as `general` below the image folder; returns the prefix for its rows' image paths.

    Nothing is copied. Raises `VlfilterError` where that cannot be (an object store, a folder that is not there).
    """
    if folder is None:
        return ""
    if not is_local(images) or not is_local(folder):
        raise VlfilterError("images of rows to mix in must lie in a local folder, and so must the output of the run.")
    target, link = absolute(folder), os.path.join(filesystem(images)[1], GENERAL)
    if not os.path.isdir(target):
        raise VlfilterError(f"there is no folder {folder} with the images of the rows to mix in.")
    if os.path.islink(link) and os.readlink(link) == target:
        return GENERAL
    if os.path.lexists(link) and not os.path.islink(link):
        raise VlfilterError(f"{link} exists and is no link: the images to mix in are linked there. Move it away.")
    os.makedirs(os.path.dirname(link), exist_ok=True)
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(target, link)
    return GENERAL
