"""Writes the trained model: the whole in the published layout, or stage 1's projector alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.layout import published_config, published_name
from vlfilter.models.locate import PROJECTOR_NAMES
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.training.run_folder import write_json
from vlfilter.training.start import Start

PROJECTOR = "projector."


def export(
    target: Path,
    vlm: VisionLanguageModel,
    start: Start,
    state: Mapping[str, Tensor],
    dtype: torch.dtype,
    *,
    whole: bool,
) -> None:
    """Write a folder that `load_vlm` reads at once, whole or not at all; an earlier one is replaced.

    Not `whole` writes config.json and `mm_projector.bin`, as LLaVA's stage 1 does: `load_vlm` reads it with its
    language model as `base`.
    """
    shutil.rmtree(target, ignore_errors=True)
    if whole:
        save_vlm(target, vlm, start.tokenizer, start.images, dtype=dtype, state=state)
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    trained = {published_name(name): t.to(dtype) for name, t in state.items() if name.startswith(PROJECTOR)}
    torch.save(trained, partial / PROJECTOR_NAMES[0])
    write_json(partial / "config.json", published_config(vlm.config))
    partial.rename(target)
