"""Top-k of many queries over an image set's embeddings: WAY IMAGES QUERIES K; prints seconds and rows as JSON.

`batched` is vlfilter's index, its making included. `one_by_one` is what MLLM-DataEngine's query script does for each
query: cosine similarity with all embeddings, then torch.topk.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

DIMENSION, THREADS = 512, 2


def embeddings(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)


def batched(images: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    from vlfilter.retrieval.index import index_of

    index = index_of(range(len(images)), images)
    return index.search(queries, k).rows


def one_by_one(images: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    import torch

    everything = torch.from_numpy(images)
    found = []
    for query in torch.from_numpy(queries):
        similarity = torch.nn.functional.cosine_similarity(query[None], everything)
        found.append(torch.topk(similarity, k).indices.numpy())
    return np.stack(found)


def main() -> None:
    way, count, queries, k = sys.argv[1], *map(int, sys.argv[2:5])
    # imports and the making of numbers are no part of either way
    images, wanted = embeddings(count, 0), embeddings(queries, 1)
    if way == "batched":
        import faiss

        faiss.omp_set_num_threads(THREADS)
    else:
        import torch

        torch.set_num_threads(THREADS)
    cpu, wall = time.process_time(), time.perf_counter()
    rows = {"batched": batched, "one_by_one": one_by_one}[way](images, wanted, k)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if len(sys.argv) > 5:
        np.save(sys.argv[5], rows)
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "rows": list(rows.shape)}))


if __name__ == "__main__":
    main()
