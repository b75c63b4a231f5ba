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
    folder = cache_folder() / "clip-tiny"
    if not folder.is_dir():
        unfinished = cache_folder() / f"clip-tiny-{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        run_program(python("benchmarks.programs.make_clip", str(unfinished)))
        unfinished.rename(folder)
    return folder
