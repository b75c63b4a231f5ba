"""Pickles that hold lists, dicts, texts and numbers, and nothing else, read as data.

A pickle is a program: it may name any function and have it called. This reader finds no function and no class, so that
whatever a pickle asks for is refused by name, and nothing of it runs.
"""

from __future__ import annotations

import pickle
from typing import Any

from vlfilter.data.storage import open_read
from vlfilter.errors import VlfilterError


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise VlfilterError(f"it asks for {module}.{name}, which may run code; annotations are lists, dicts and texts.")

    def persistent_load(self, _: Any) -> Any:
        raise VlfilterError("it refers to objects outside the file.")


def read_plain_pickle(url: str) -> Any:
    """What a pickle of plain values holds; texts that Python 2 wrote are UTF-8. Raises `VlfilterError` when the file is
    missing, is damaged, or wants to build anything else."""
    try:
        with open_read(url) as file:
            return _Unpickler(file, encoding="utf-8").load()
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except VlfilterError as error:
        raise VlfilterError(f"{url} is not read: {error}") from None
    except Exception as error:  # a damaged or hostile pickle raises nearly every class there is
        raise VlfilterError(
            f"{url} cannot be read as a pickle of annotations: {type(error).__name__}: {error}"
        ) from None
