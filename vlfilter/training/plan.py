"""How a run is spread over the machine, and what tells two runs apart."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from vlfilter.data import receipts
from vlfilter.data.listing import below
from vlfilter.data.storage import absolute, filesystem, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.models.digests import file_digest, files_digest, model_digest, tower_digest
from vlfilter.training.mixture import read_mixture
from vlfilter.training.settings import ALONE, FREE_FIELDS, MACHINE_FIELDS, TrainSettings, unused_fields

CODE_VERSION = 1  # goes up when the same settings would train another model


@dataclass(frozen=True, slots=True)
class Plan:
    """`device` cpu or cuda, one process each; `per_device` samples at once, `accumulation` times in a step."""

    device: str
    dtype: str
    processes: int
    per_device: int
    accumulation: int


def make_plan(settings: TrainSettings) -> Plan:
    """The plan for this machine. Raises `VlfilterError` for GPUs that are not there or a batch that does not divide."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = settings.device if settings.device != "auto" else "cuda" if gpus else "cpu"
    processes = settings.processes or (gpus if device == "cuda" else 1)
    if device == "cuda" and (not gpus or processes > gpus):
        raise VlfilterError(f"{processes or 1} processes on CUDA need as many GPUs; there are {gpus}.")
    share, left = divmod(settings.batch_size, processes)
    draw, cut = divmod(settings.batch_size, settings.draws)
    per_device = min(settings.per_device_batch, share, draw)
    if settings.draws > 1 and (cut or not draw or draw % max(per_device, 1)):
        raise VlfilterError(
            f"batch_size {settings.batch_size} is not a multiple of {settings.draws} draws times per_device_batch "
            f"{per_device}: a batch that a process handles at once is of one draw."
        )
    if left or not per_device or share % per_device:
        raise VlfilterError(
            f"batch_size {settings.batch_size} is not a multiple of {processes} processes times "
            f"per_device_batch {settings.per_device_batch}."
        )
    alone = per_device == 1 and (settings.softmax_scope == "local" or processes == 1)
    if settings.objective == "self_filter" and alone:
        raise VlfilterError(ALONE)
    dtype = settings.dtype if settings.dtype != "auto" else "bfloat16" if device == "cuda" else "float32"
    if dtype == "float16" and device == "cpu":
        raise VlfilterError("dtype float16 trains on CUDA only: give bfloat16 or float32.")
    return Plan(device, dtype, processes, per_device, share // per_device)


def identity(settings: TrainSettings, plan: Plan) -> dict[str, Any]:
    """What decides the result, `what` (settings, data, weights) and `how` (the machine's share).

    A finished model is told by `what`; a run is resumed only where both agree. Images are not read for this.
    """
    from vlfilter.training.start import adapter_files, projector_path

    dumped = settings.model_dump(mode="json")
    ours = FREE_FIELDS | MACHINE_FIELDS | {
        "data", "validation", "features", "images", "mixture", "model", "language_model", "vision_tower", "projector",
        "adapter",
    }  # fmt: skip
    ours |= {name for fields in unused_fields(settings) for name in fields}
    weights = {
        "model": settings.model and model_digest(settings.model),
        "language_model": settings.language_model and model_digest(settings.language_model),
        "vision_tower": settings.vision_tower and tower_digest(settings.vision_tower),
        "projector": settings.projector and file_digest(projector_path(settings.projector)),
        "adapter": settings.adapter and files_digest(adapter_files(settings.adapter)),
    }
    what = {name: value for name, value in dumped.items() if name not in ours}
    files = {"data": settings.data, "validation": settings.validation}
    what |= {name: _digest(url) for name, url in files.items() if url}
    if settings.mixture:
        what["mixture"] = mixture_identity(settings.mixture)
    else:
        what |= {"images": settings.images}
    if settings.features:
        what["features"] = _features_digest(settings.features)
    what |= {name: digest for name, digest in weights.items() if digest} | {"code": CODE_VERSION}
    return {"what": what, "how": asdict(plan) | {"zero": settings.zero}}


def mixture_identity(url: str) -> dict[str, Any]:
    """Every data set's entry with the digest of its files, and its place, which the draws depend on."""
    entries = {}
    for place, entry in enumerate(read_mixture(url).datasets):
        told = entry.model_dump(mode="json", by_alias=True)
        digests = [_digest(url) for url in entry.files]
        entries[entry.name] = told | {"data": digests if len(digests) > 1 else digests[0], "place": place}
    return entries


def _digest(url: str) -> str:
    try:
        return hashlib.sha256(read_bytes(url)).hexdigest()
    except FileNotFoundError as error:
        raise VlfilterError(f"{url} does not exist: it should hold the rows to train on.") from error


def _features_digest(url: str) -> str:
    """Of a file's content, or of all tables' in a folder with their names."""
    fs, path = filesystem(url)
    if not fs.isdir(path):
        return receipts.file_digest(url)
    start = absolute(url).rstrip("/")
    lines = sorted(f"{f.url.removeprefix(start)} {receipts.file_digest(f.url)}" for f in below(start, (".parquet",)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The names whose values differ; of values that are objects themselves, the names in them."""
    names = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{name} {inner}" for inner in differences(old, new)]
        elif old != new:
            names.append(name)
    return names
