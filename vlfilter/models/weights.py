"""Weights on disk: safetensors and (legacy) `.bin` shards read by name without pickled code, safetensors written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vlfilter.errors import VlfilterError

SHARD_BYTES = 5 * 10**9
# buffers that are computed, but that older versions of transformers wrote down
_DERIVED = ("embeddings.position_ids", "rotary_emb.inv_freq")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: its shape is known, its data is read when asked for."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def is_derived(name: str) -> bool:
    """Whether a stored tensor is computed, never trained, and so not read."""
    return name.endswith(_DERIVED)


def open_weights(files: list[Path]) -> dict[str, StoredTensor]:
    """All tensors in some weight files by name; only headers are read now.

    Raises `VlfilterError` for a damaged file, or a `.bin` that holds anything but tensors.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        tensors |= _open_safetensors(path) if path.suffix == ".safetensors" else _open_bin(path)
    return tensors


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        file = safe_open(path, framework="pt")
        return {
            name: StoredTensor(tuple(file.get_slice(name).get_shape()), partial(file.get_tensor, name))
            for name in file.keys()  # noqa: SIM118 (the file is no mapping)
        }
    except (SafetensorError, OSError) as error:
        raise VlfilterError(f"{path} is damaged ({error}): download or write it again.") from error


def _open_bin(path: Path) -> dict[str, StoredTensor]:
    state = read_torch(path)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    return stored_tensors(state, str(path))


def stored_tensors(state: Any, origin: str) -> dict[str, StoredTensor]:
    """Tensors by name, as `read_torch` gives them. Raises `VlfilterError` for anything else."""
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise VlfilterError(f"{origin} does not hold tensors by name.")
    return {name: StoredTensor(tuple(tensor.shape), partial(state.__getitem__, name)) for name, tensor in state.items()}


def read_torch(path: Path) -> Any:
    """What a file of torch holds: tensors (mapped, read when touched), numbers, texts, and collections of them.

    Raises `VlfilterError` for a damaged file, and for one that holds other objects, which are named and not made:
    making them would run code of the file's choice.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped into memory
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise VlfilterError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises several families of errors here
        if refused := _refused(path):
            raise VlfilterError(
                f"{path} cannot be read without running pickled code: it holds {', '.join(refused)}. If you trust "
                "where it comes from, load it with torch.load(…, weights_only=False) where its code is installed, and "
                "save of it again what is tensors and plain numbers and texts."
            ) from error
        raise VlfilterError(f"{path} cannot be read without running pickled code, or is damaged: {error}") from error


def _refused(path: Path) -> list[str]:
    """Classes and functions in a pickle that torch does not admit, without running it; none where it is damaged."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # whatever is wrong with the file, it has been told
        return []


@contextmanager
def empty_parameters() -> Iterator[None]:
    """Modules built inside have their parameters on the meta device (no memory, no random numbers).

    Buffers stay real: rotary frequencies are computed, never stored.
    """
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and parameter.device.type != "meta":
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def check_fit(module: nn.Module, tensors: Mapping[str, StoredTensor], origin: str) -> None:
    """Raises `VlfilterError` listing missing, unexpected and mis-shaped tensors; none is read."""
    wanted = module.state_dict()
    problems = [
        ("missing", sorted(wanted.keys() - tensors.keys())),
        ("unexpected", sorted(tensors.keys() - wanted.keys())),
        ("of another shape", [
            f"{name} {tensors[name].shape} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items() if name in tensors and tensors[name].shape != tuple(tensor.shape)
        ]),
    ]  # fmt: skip
    lines = [
        f"{len(names)} {what}: {', '.join(names[:6])}{' …' * (len(names) > 6)}" for what, names in problems if names
    ]
    if lines:
        raise VlfilterError(f"{origin} does not fit its config.json. Tensors {'; '.join(lines)}.")


def fill(
    module: nn.Module,
    tensors: Mapping[str, StoredTensor],
    origin: str,
    device: torch.device | str,
    dtype_of: Callable[[str], torch.dtype],
) -> None:
    """Put stored tensors into a module whose parameters may lie on the meta device, one at a time, converted and moved.

    Raises as `check_fit`, before any tensor is read.
    """
    check_fit(module, tensors, origin)
    trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    for name in module.state_dict():
        tensor = tensors[name].read().to(device=device, dtype=dtype_of(name))
        # clone what still is a view of a mapped file, so that later training or a vanished file cannot touch it
        tensor = tensor.clone() if tensor.device.type == "cpu" else tensor
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        if name in trained:
            setattr(holder, leaf, nn.Parameter(tensor, requires_grad=trained[name]))
        else:
            holder.register_buffer(leaf, tensor)
    module.to(device)


def write_weights(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> None:
    """Write `model.safetensors`, or numbered shards with their index where the whole is larger than `shard_bytes`."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * tensor.element_size()
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().to("cpu").contiguous()
        size += nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    _write_index(folder, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), places)


def write_stored(
    folder: Path, tensors: Mapping[str, StoredTensor], dtype: torch.dtype, shard_bytes: int = SHARD_BYTES
) -> None:
    """As `write_weights`, from tensors that are read, converted and written shard by shard: one shard is in memory."""
    shards: list[list[str]] = [[]]
    size = total = 0
    for name, tensor in tensors.items():
        nbytes = math.prod(tensor.shape) * dtype.itemsize
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size, total = size + nbytes, total + nbytes
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        one = len(shards) == 1
        file = "model.safetensors" if one else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        held = {name: tensors[name].read().to(dtype).contiguous() for name in names}
        save_file(held, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    if len(shards) > 1:
        _write_index(folder, total, places)


def _write_index(folder: Path, total: int, places: Mapping[str, str]) -> None:
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
