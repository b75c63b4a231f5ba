"""The products of some rows with all, on an accelerator: what takes nearly all of a selection's time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from vlfilter.errors import VlfilterError

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

TILE = 65_536  # rows that are brought there at a time
MOST_PRODUCTS = 2**29  # float32 products kept at a time: 2 GB


class DeviceProducts:
    """Rows [n, d] of a matrix, in float32 on `device`. Raises `VlfilterError` where they find no room there."""

    def __init__(self, matrix: npt.NDArray[np.floating], device: str):
        try:
            self._rows = torch.empty(matrix.shape, dtype=torch.float32, device=device)
            for start in range(0, len(matrix), TILE):
                tile = np.ascontiguousarray(matrix[start : start + TILE], np.float32)
                self._rows[start : start + TILE] = torch.from_numpy(tile)
        except torch.OutOfMemoryError:
            need = 4 * matrix.size / 1e9
            raise VlfilterError(f"the features need {need:.1f} GB on {device}, which has not that much: cpu.") from None

    def best(self, ones: Floats, scale: Floats, length: int) -> tuple[Rows, Floats]:
        """Of (ones [b, d] × rows) · scale [n] the `length` largest a row of `ones`, descending: places and values."""
        factor = torch.from_numpy(scale).to(self._rows.device)
        places, values = [], []
        for some in self._on_device(ones).split(max(1, MOST_PRODUCTS // len(self._rows))):
            found = torch.topk(self._products(some).mul_(factor), length, dim=1)
            places.append(found.indices.cpu().numpy())
            values.append(found.values.cpu().numpy())
        return np.concatenate(places), np.concatenate(values)

    def with_all(self, one: Floats) -> Floats:
        """one [d] × rows → [n]."""
        products: Floats = self._products(self._on_device(one[None]))[0].cpu().numpy()
        return products

    def _on_device(self, ones: Floats) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(ones)).to(self._rows.device)

    def _products(self, ones: torch.Tensor) -> torch.Tensor:
        with _whole_float32():
            return ones @ self._rows.T


@contextmanager
def _whole_float32() -> Iterator[None]:
    """No TF32, whose products are further off than the bound on which the exactness rests."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
