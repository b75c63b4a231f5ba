"""The models that are scored with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.harness import ROOT, VISIBLE, cache_folder, python, run_program

UNIFILTER_TINY = ROOT / "tests" / "fixtures" / "unifilter"  # the published layout with tiny random weights
MLM_FILTER_TINY = ROOT / "tests" / "fixtures" / "mlm_filter"


def clip_tiny() -> Path:
    """A transformers CLIP of 3.5 million parameters for 224 px, made once."""
    return model_of("clip_tiny", "float32")


def model_of(preset: str, dtype: str) -> Path:
    """A model of a preset's size with random weights, in the published layout, made once."""
    name = f"{preset}-{dtype}"
    folder = cache_folder() / name
    if not folder.is_dir():
        unfinished = cache_folder() / f"{name}-{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        run_program(python("benchmarks.programs.make_model", str(unfinished), preset, dtype), VISIBLE)
        unfinished.rename(folder)
    return folder
