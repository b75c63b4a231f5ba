"""Self-Filter's selection as it is described, pick by pick: FEATURES.npy DIFFICULTY.npy PICKS OUTPUT.npy [DEVICE].

Every pick sorts all difficulties, computes its cosine to every row in float32, and sorts those. Prints the seconds that
the picks took, wall and CPU, imports and reading apart.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import numpy as np


def port(
    features: np.ndarray, difficulty: Sequence[float], picks: int, gamma: float, neighbours: int, device: str
) -> list[int]:
    import torch

    rows = torch.from_numpy(features).to(device)
    left = dict(enumerate(difficulty))
    order: list[int] = []
    for _ in range(picks):
        hardest, value = sorted(left.items(), key=lambda item: item[1], reverse=True)[0]
        order.append(hardest)
        del left[hardest]
        one = rows[hardest]
        cosines = (rows * one).sum(dim=1) / rows.norm(dim=1) / one.norm()
        values, indices = torch.sort(cosines, descending=True, stable=True)
        found = 0
        for place in range(len(left)):
            other = int(indices[place])
            if other not in left:
                continue
            left[other] = left[other] - (value * (values[place].item() ** 2)) * gamma
            found += 1
            if found == neighbours:
                break
    return order


def main() -> None:
    import torch

    torch.set_num_threads(1)
    features, difficulty = np.load(sys.argv[1]), np.load(sys.argv[2]).tolist()
    wall, cpu = time.perf_counter(), time.process_time()
    order = port(features, difficulty, int(sys.argv[3]), 1.0, 10, sys.argv[5] if len(sys.argv) > 5 else "cpu")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(sys.argv[4], np.array(order, np.int64))
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "picks": len(order)}))


if __name__ == "__main__":
    main()
