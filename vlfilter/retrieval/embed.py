"""The house's CLIP over image files: unit vectors, many images at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from vlfilter.data.images import decode_image
from vlfilter.data.samples import SampleError
from vlfilter.errors import VlfilterError
from vlfilter.scoring.runner import free_memory, is_out_of_memory

MODEL = "openai/clip-vit-base-patch32"  # the published embeddings' model

Vector = np.ndarray | SampleError  # float32 (d,) of length one, or why there is none


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """`model` is a folder or name as `load_clip` takes it, `precision` what it computes in. `batch` and `workers`
    (threads that read and decode) change no vector."""

    model: str = MODEL
    precision: str = "float32"
    device: str = "auto"
    batch: int = 64
    workers: int = 4

    def __post_init__(self) -> None:
        if self.batch < 1 or self.workers < 1:
            raise VlfilterError("batch and workers must be at least 1.")


class ImageEncoder:
    """A loaded CLIP. A batch that does not fit into memory is halved, and batches stay smaller then."""

    def __init__(self, settings: EmbedSettings):
        from vlfilter.models.startup import import_transformers

        import_transformers()
        from vlfilter.models.clip import load_clip
        from vlfilter.models.device import resolve_device, resolve_dtype

        device = resolve_device(settings.device)
        self._clip = load_clip(settings.model, device=device, dtype=resolve_dtype(settings.precision, device))
        self._batch = settings.batch
        self._workers = settings.workers
        blank = np.zeros((self._clip.images.height, self._clip.images.width, 3), np.uint8)
        self.dimension = int(self._encode([blank]).shape[1])

    def encode(self, files: Iterable[Callable[[], bytes]]) -> Iterator[Vector]:
        """A vector, or the reason for none, for each image; each of `files` gives an image file's bytes or raises
        `SampleError`. The next batch is read and decoded beside the model."""
        for loaded in self._loaded(files):
            pixels = [image for image in loaded if not isinstance(image, SampleError)]
            found = iter(self._fitting(pixels) if pixels else ())
            for image in loaded:
                yield image if isinstance(image, SampleError) else next(found)

    def _loaded(self, files: Iterable[Callable[[], bytes]]) -> Iterator[list[np.ndarray | SampleError]]:
        from vlfilter.models.preprocess import to_pixels

        def load(file: Callable[[], bytes]) -> np.ndarray | SampleError:
            try:
                return to_pixels(decode_image(file()), self._clip.images)
            except SampleError as error:
                return error

        waiting: deque[list[Future[np.ndarray | SampleError]]] = deque()
        rest = iter(files)
        size = self._batch
        with ThreadPoolExecutor(self._workers) as pool:
            while some := list(islice(rest, size)):
                waiting.append([pool.submit(load, file) for file in some])
                if len(waiting) > 1:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]

    def _fitting(self, pixels: list[np.ndarray]) -> np.ndarray:
        if len(pixels) > self._batch:
            return np.concatenate([self._fitting(pixels[: self._batch]), self._fitting(pixels[self._batch :])])
        try:
            return self._encode(pixels)
        except Exception as error:
            if len(pixels) == 1 or not is_out_of_memory(error):
                raise
        # Outside the handler, so that the failed pass's tensors are free before the next one.
        free_memory()
        self._batch = (len(pixels) + 1) // 2
        return self._fitting(pixels)

    def _encode(self, pixels: list[np.ndarray]) -> np.ndarray:
        import torch

        from vlfilter.models.preprocess import normalised_chunks

        with torch.inference_mode():
            chunks = normalised_chunks(pixels, self._clip.images, self._clip.device)
            features = torch.cat([self._clip.encode_images(chunk) for chunk in chunks])
            vectors: np.ndarray = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
        return vectors
