"""vlfilter's diverse selection of the same: FEATURES.npy DIFFICULTY.npy PICKS OUTPUT.npy; prints the seconds it took,
wall and CPU, all preparations of the features included, imports and reading apart."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch

from vlfilter.data.features import Features
from vlfilter.selection.diverse import Difficulty, select_diverse


def main() -> None:
    torch.set_num_threads(1)
    features, values = np.load(sys.argv[1]), np.load(sys.argv[2])
    wall, cpu = time.perf_counter(), time.process_time()
    picks = select_diverse(Features.of(features), Difficulty(np.arange(len(values)), values), int(sys.argv[3]))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(sys.argv[4], picks.ids)
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "picks": len(picks)}))


if __name__ == "__main__":
    main()
