"""A CLIP that turns texts and image files into unit vectors, many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from vlfilter.data.image_files import load_image
from vlfilter.data.samples import SampleError
from vlfilter.methods.self_filter.vectors import Vector
from vlfilter.scoring.runner import free_memory, is_out_of_memory

if TYPE_CHECKING:
    import torch


class ClipEncoder:
    """`model` is a folder or hub name; `precision` is what the towers compute in; `batch` how many go in at a time.

    A batch that does not fit into memory is halved, and batches stay smaller then. Raises `VlfilterError` when the
    model, the device or the precision is none.
    """

    def __init__(self, model: str, device: str, precision: str, batch: int, workers: int):
        from vlfilter.models.startup import import_transformers

        import_transformers()
        from vlfilter.models.clip import load_clip
        from vlfilter.models.device import resolve_device, resolve_dtype

        where = resolve_device(device)
        self._clip = load_clip(model, device=where, dtype=resolve_dtype(precision, where))
        self._batch = batch
        self._workers = workers
        self.dimension = int(self._texts([""]).shape[1])

    def texts(self, texts: Sequence[str]) -> list[Vector]:
        """float32 (d,) of length one for each text, of which CLIP sees the first tokens (77 with the usual model)."""
        return list(self._fitting(self._texts, texts)) if texts else []

    def images(self, folder: str, paths: Sequence[str]) -> list[Vector]:
        """float32 (d,) of length one for each image file, or the `SampleError` why it has none."""
        vectors: list[Vector] = []
        for loaded in self._loaded(folder, paths):
            pixels = [image for image in loaded if not isinstance(image, SampleError)]
            found = iter(self._fitting(self._images, pixels) if pixels else ())
            vectors += [image if isinstance(image, SampleError) else next(found) for image in loaded]
        return vectors

    def _loaded(self, folder: str, paths: Sequence[str]) -> Iterator[list[np.ndarray | SampleError]]:
        """Batches of uint8 images (H, W, 3); the next one is read and decoded beside the model."""
        from vlfilter.models.preprocess import to_pixels

        def load(path: str) -> np.ndarray | SampleError:
            try:
                return to_pixels(load_image(folder, path), self._clip.images)
            except SampleError as error:
                return error

        size = self._batch
        waiting: deque[list[Future[np.ndarray | SampleError]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(paths), size):
                waiting.append([pool.submit(load, path) for path in paths[start : start + size]])
                if len(waiting) > 1:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]

    def _fitting(self, encode: Callable[[Sequence[Any]], np.ndarray], items: Sequence[Any]) -> np.ndarray:
        parts: list[np.ndarray] = []
        done = 0
        while done < len(items):
            batch = items[done : done + self._batch]
            try:
                parts.append(encode(batch))
                done += len(batch)
                continue
            except Exception as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
            # Outside the handler, so that the failed pass's tensors are free before the next one.
            free_memory()
            self._batch = (len(batch) + 1) // 2
        return np.concatenate(parts)

    def _texts(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        from vlfilter.models.clip import pad_ids

        ids = pad_ids([self._clip.tokens(text)[0] for text in texts], self._clip.tokens.pad)
        with torch.inference_mode():
            return _unit(self._clip.encode_texts(ids.to(self._clip.device)))

    def _images(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        from vlfilter.models.preprocess import normalised_chunks

        with torch.inference_mode():
            chunks = normalised_chunks(pixels, self._clip.images, self._clip.device)
            return _unit(torch.cat([self._clip.encode_images(chunk) for chunk in chunks]))


def _unit(features: torch.Tensor) -> np.ndarray:
    from torch.nn.functional import normalize

    vectors: np.ndarray = normalize(features.float(), dim=-1).cpu().numpy()
    return vectors
