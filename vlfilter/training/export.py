"""Writes the trained model: the whole in the published layout, or stage 1's projector alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlfilter.models.adapters import LoraConfig, merged, split_lora
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.layout import published_config, published_name
from vlfilter.models.locate import PROJECTOR_NAMES
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.training.lora_files import write_adapter
from vlfilter.training.run_folder import write_json
from vlfilter.training.settings import TrainSettings
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
    _write_parts(target, vlm, {name: t for name, t in state.items() if name.startswith(PROJECTOR)}, dtype)


def export_lora(
    target: Path, vlm: VisionLanguageModel, start: Start, state: Mapping[str, Tensor], dtype: torch.dtype,
    lora: LoraConfig, settings: TrainSettings,
) -> None:  # fmt: skip
    """Write the model with its adapters merged into the weights, and the adapters beside them, in `adapter/`.

    Not `merge_lora` writes config.json, the adapters and, where it was trained, the projector: `merge_adapter` makes
    them whole.
    """
    rest, adapters = split_lora(state)
    base = str(settings.model or settings.language_model)
    if settings.merge_lora:
        export(target, vlm, start, merged(rest, adapters, lora.scale), dtype, whole=True)
        write_adapter(target / "adapter", adapters, lora, base)
        return
    trained = {name: t for name, t in rest.items() if name.startswith(PROJECTOR) and "projector" in settings.trainable}
    shutil.rmtree(target, ignore_errors=True)
    _write_parts(target, vlm, trained, dtype, lambda folder: write_adapter(folder, adapters, lora, base))


def _write_parts(
    target: Path, vlm: VisionLanguageModel, projector: Mapping[str, Tensor], dtype: torch.dtype,
    more: Callable[[Path], None] = lambda _: None,
) -> None:  # fmt: skip
    """config.json with what was trained, whole or not at all; `more` writes into the same folder."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if projector:
        trained = {published_name(name): tensor.to(dtype) for name, tensor in projector.items()}
        torch.save(trained, partial / PROJECTOR_NAMES[0])
    more(partial)
    write_json(partial / "config.json", published_config(vlm.config))
    partial.rename(target)
