"""The published embeddings, `coco_image.pth`: read as data, never run.

Despite its name the file is a plain pickle of `{image_id: tensor (1, d)}` (MLLM-DataEngine), each tensor's storage once
more as a file of torch's own inside. A pickle is a program: this one may build nothing but dicts, numbers, texts and
tensors, and whatever else it asks for is refused by name. Files that `torch.save` wrote are read with `weights_only`.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from vlfilter.data.storage import open_read
from vlfilter.errors import VlfilterError
from vlfilter.retrieval.index import ImageId, ImageIndex, index_of

if TYPE_CHECKING:
    import torch

MODEL = "openai/clip-vit-base-patch32"
_ZIP = b"PK\x03\x04"
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the number at the start of torch's files before zip


def read_published(url: str, made_of: str = "") -> ImageIndex:
    """The index of a published file of embeddings. Raises `VlfilterError` when it is missing, is no such dict, or wants
    to build anything but one: then the message names what."""
    try:
        with open_read(url) as file:
            loaded = _load(file, url)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    if not isinstance(loaded, dict) or not loaded:
        raise VlfilterError(f"{url} should hold a dict from image id to embedding; it holds {_described(loaded)}.")
    ids: list[ImageId] = []
    vectors = None
    for row, (key, value) in enumerate(loaded.items()):
        vector = _vector(value, key, url)
        if vectors is None:
            vectors = np.empty((len(loaded), len(vector)), np.float32)
        if len(vector) != vectors.shape[1]:
            raise VlfilterError(f"{url}: image {key!r} has {len(vector)} numbers, the others {vectors.shape[1]}.")
        ids.append(_image_id(key, url))
        vectors[row] = vector
    assert vectors is not None
    return index_of(ids, vectors, MODEL, made_of)


def _load(file: BinaryIO, url: str) -> Any:
    import torch

    start = file.read(64)
    file.seek(0)
    try:
        if start.startswith(_ZIP) or _TORCH_MAGIC in start[:16]:
            return torch.load(file, map_location="cpu", weights_only=True)
        return _Unpickler(file).load()
    except VlfilterError as error:
        raise VlfilterError(f"{url} is not read: {error}") from None
    except Exception as error:  # a damaged or hostile pickle raises nearly every class there is
        raise VlfilterError(f"{url} cannot be read as embeddings: {type(error).__name__}: {error}") from None


class _Unpickler(pickle.Unpickler):
    """Builds dicts, numbers, texts, and tensors from bytes; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise VlfilterError(f"it asks for {module}.{name}, which embeddings do not need and which may run code.")
        return found

    def persistent_load(self, _: Any) -> Any:
        raise VlfilterError("it refers to objects outside the file.")


def _storage(data: Any) -> Any:
    """A storage from the bytes that torch writes of it, in place of torch's own function, which unpickles anything."""
    import torch

    if not isinstance(data, bytes):
        raise VlfilterError("a tensor's storage is not bytes.")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """As `torch._utils._rebuild_tensor_v2`, but within its storage, and without gradients and hooks."""
    import torch

    if not isinstance(storage, torch.storage.TypedStorage):
        raise VlfilterError("a tensor has no storage.")
    numbers = [offset, *_whole(size), *_whole(stride)]
    if len(size) != len(stride) or any(type(number) is not int or number < 0 for number in numbers):
        raise VlfilterError("a tensor's size and stride are not whole numbers.")
    stored = storage._untyped_storage  # its public name warns, once a tensor
    length = stored.nbytes() // storage.dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if math.prod(size) else 0
    if math.prod(size) and last >= length:
        raise VlfilterError("a tensor is larger than its storage.")
    return torch.empty(0, dtype=storage.dtype).set_(stored, offset, tuple(size), tuple(stride))


def _bytes(text: Any, encoding: Any) -> bytes:
    """How pickles of protocol 2 and below write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise VlfilterError("it encodes something that is no bytes.")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}


def _whole(numbers: Any) -> Sequence[int]:
    if not isinstance(numbers, tuple | list):
        raise VlfilterError("a tensor's size or stride is not a list.")
    return numbers


def _vector(value: Any, key: Any, url: str) -> np.ndarray:
    import torch

    shape = list(value.shape) if isinstance(value, torch.Tensor) else None
    if shape is None or not value.is_floating_point() or not value.numel() or shape[-1:] != [value.numel()]:
        raise VlfilterError(f"{url}: image {key!r} has {_described(value)}, not one vector of numbers.")
    vector: np.ndarray = value.detach().float().reshape(-1).numpy()
    return vector


def _image_id(key: Any, url: str) -> ImageId:
    """An int; digits in quotes count as one (COCO's ids are numbers, and a text would never be found there)."""
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise VlfilterError(f"{url}: {key!r} is no image id.")
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 18 else key


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    size = f" of shape {list(shape)}" if shape is not None else f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"
