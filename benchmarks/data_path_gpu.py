"""UniFilter at full size on a GPU: samples a second, share of the bare forward, and FLOP used of what it can do.

SigLIP-SO400M and Qwen2.5-1.5B with random weights in bfloat16, with a loop as the published script's beside it.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.data_path import Case, run

CASE = Case("data_path_gpu", "unifilter_qwen2.5_1.5b", "bfloat16", "cuda", 8, 1000, 32768, 16)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        print("data_path_gpu: there is no GPU here, so it was not run")
        sys.exit(0)
    sys.exit(not run(CASE))
