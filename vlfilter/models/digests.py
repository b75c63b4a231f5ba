"""Digests of model files, so that a score table can say which weights made it. Content decides, not names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vlfilter.data.storage import write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.models.folders import TRAINED_ALONE, has_weights, local_folder, tokenizer_files, weight_files


def cache_folder() -> Path:
    """Where digests are remembered: `VLFILTER_CACHE`, else the user's cache directory."""
    if own := os.environ.get("VLFILTER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlfilter"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex.

    Remembered on disk by real path, size and modification time: a checkpoint of many gigabytes is read once. One small
    file an entry, so that several processes never overwrite each other's; a broken or unwritable cache is ignored.
    """
    real = path.resolve()
    stat = real.stat()
    identity = f"{real}|{stat.st_size}|{stat.st_mtime_ns}"
    entry = cache_folder() / "digests" / hashlib.sha256(identity.encode()).hexdigest()
    try:
        known = json.loads(entry.read_text())
        if known["identity"] == identity and len(known["sha256"]) == 64:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with real.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError, VlfilterError):
        write_bytes(str(entry), json.dumps({"identity": identity, "sha256": digest}).encode())
    return digest


def files_digest(files: list[Path]) -> str:
    """One digest of several files: their base names and contents, in any order."""
    lines = sorted(f"{path.name} {file_digest(path)}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def model_digest(name: str, *, tokenizer: bool = True) -> str:
    """What a model is made of: a digest of configuration, weights, preprocessing and tokenizer, or `hub:NAME@COMMIT`.

    Of a folder that holds a projector or an adapter in place of weights and tokenizer, these; its base is told apart.
    Raises `VlfilterError` when files are missing or the hub's commit is neither cached nor available.
    """
    folder = local_folder(name)
    if folder is None:
        return f"hub:{name}@{hub_commit(name)}"
    names = ("config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json")
    configs = [folder / name for name in names]
    configs = [path for path in configs if path.is_file()]
    trained = [folder / name for name in TRAINED_ALONE if (folder / name).is_file()]
    if trained and not has_weights(folder):
        return files_digest(configs + trained)
    files = configs + weight_files(folder)
    return files_digest(files + (tokenizer_files(folder) if tokenizer else []))


def tower_digest(name: str) -> str:
    """As `model_digest`, of a vision tower: a folder, a hub name or a file of weights."""
    path = Path(name).expanduser()
    return file_digest(path) if path.is_file() else model_digest(name, tokenizer=False)


def hub_commit(name: str, files: Sequence[str] = ("config.json", "open_clip_config.json")) -> str:
    """The commit that a hub name stands for: that of a cached one of `files`, else the hub's answer; weights are not
    downloaded."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    for file in files:
        cached = try_to_load_from_cache(name, file)
        if isinstance(cached, str):
            return Path(cached).parent.name
    try:
        return str(HfApi().model_info(name, timeout=20).sha)
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:  # no connection is an HTTPError too
        raise VlfilterError(
            f"model {name!r} is neither a local folder nor in the hub's cache, and the hub does not answer "
            f"({type(error).__name__}). Check the name and the network, or download it once and give its folder."
        ) from error
