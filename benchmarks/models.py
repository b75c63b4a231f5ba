"""The models that are scored with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.harness import ROOT, cache_folder, python, run_program

UNIFILTER_TINY = ROOT / "tests" / "fixtures" / "unifilter"  # the published layout with tiny random weights
MLM_FILTER_TINY = ROOT / "tests" / "fixtures" / "mlm_filter"


def clip_tiny() -> Path:
    """A transformers CLIP of 3.5 million parameters for 224 px, made once."""
    return _made_once("clip-tiny", "benchmarks.programs.make_clip")


def unifilter(preset: str, dtype: str) -> Path:
    """A classifier of a preset's size with random weights, in the published layout, made once."""
    return _made_once(f"{preset}-{dtype}", "benchmarks.programs.make_unifilter", preset, dtype)


def _made_once(name: str, program: str, *arguments: str) -> Path:
    folder = cache_folder() / name
    if not folder.is_dir():
        unfinished = cache_folder() / f"{name}-{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        run_program(python(program, str(unfinished), *arguments))
        unfinished.rename(folder)
    return folder
