"""Where a model lies: a local folder or a hub name becomes a folder of files, without torch. And a new one's place."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlfilter.data.storage import temporary_path
from vlfilter.errors import VlfilterError

# Never *.py, training_args.bin or optimizer states: only what is read, and no pickle beside the weights.
METADATA_PATTERNS = ["*.json", "merges.txt", "vocab.txt", "*.model", "*.tiktoken"]
SAFETENSORS_PATTERNS = ["model*.safetensors", "open_clip_model*.safetensors"]
BIN_PATTERNS = ["pytorch_model*.bin", "open_clip_pytorch_model*.bin"]
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model", "tokenizer_config.json",
                   "special_tokens_map.json", "added_tokens.json", "vocab.txt", "spiece.model")  # fmt: skip
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# what a folder has in place of weights, which then are its base model's
TRAINED_ALONE = ("mm_projector.bin", "mm_projector.safetensors", "adapter_config.json", "adapter_model.safetensors")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_name(name: str) -> bool:
    """Whether `owner/name` means the hub: it has that form and no local folder is called so."""
    return _HUB_NAME.fullmatch(name) is not None and not name.startswith(".") and not Path(name).exists()


def local_folder(name: str) -> Path | None:
    """The local folder `name`, or None for a hub name. Raises `VlfilterError` when it is neither."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if is_hub_name(name):
        return None
    problem = "is a file, not a folder" if path.exists() else "does not exist"
    raise VlfilterError(
        f"model {name!r} {problem}: give the folder that holds its config.json, or a hub name owner/name."
    )


def model_folder(name: str) -> Path:
    """The folder of a model; a hub name is downloaded to (or found in) the hub's cache.

    Raises `VlfilterError` when the folder does not exist or the hub does not give it.
    """
    if folder := local_folder(name):
        return folder
    folder = _snapshot(name, METADATA_PATTERNS + SAFETENSORS_PATTERNS)
    if not any(folder.glob("*.safetensors")):
        folder = _snapshot(name, METADATA_PATTERNS + BIN_PATTERNS)
    return folder


def hub_file(name: str, file: str) -> Path:
    """One small file of a hub model, from the cache or downloaded, with the same errors as `model_folder`."""
    return _snapshot(name, [file]) / file


def _snapshot(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise VlfilterError(
            f"model {name!r} is neither a local folder nor in the hub's cache, and could not be downloaded "
            f"({type(error).__name__}: {first}). Check the name and the network, or download it and give its folder."
        ) from error


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which appears at `path` when the block ends, whole or not at all.

    Raises `VlfilterError` when `path` exists with something in it, or cannot be written.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise VlfilterError(f"{target} exists already: remove it, or choose another folder for the checkpoint.")
    temporary = Path(temporary_path(str(target.absolute())))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except OSError as error:
        raise VlfilterError(f"cannot write the checkpoint {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `VlfilterError` when it is missing, torn, or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VlfilterError(f"{path.parent} has no {path.name}: is it the folder of a model?") from error
    except (OSError, ValueError) as error:
        raise VlfilterError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise VlfilterError(f"{path} is not a JSON object.")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The files with a model's weights: one, or the shards that an index names. safetensors before `.bin`.

    Raises `VlfilterError` when there are none or a shard is missing.
    """
    for name in WEIGHT_NAMES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            shards = [folder / shard for shard in sorted(set(read_json(index).get("weight_map", {}).values()))]
            if missing := [shard.name for shard in shards if not shard.is_file()]:
                raise VlfilterError(
                    f"{folder} lacks {', '.join(missing)}, which {index.name} names: download it again."
                )
            if shards:
                return shards
    raise VlfilterError(f"{folder} has no weights (looked for {', '.join(WEIGHT_NAMES)} and their indexes).")


def has_weights(folder: Path) -> bool:
    """Whether `weight_files` finds any."""
    try:
        return bool(weight_files(folder))
    except VlfilterError:
        return False


def tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer's files. Raises `VlfilterError` when there is no vocabulary among them."""
    names = {name for name in TOKENIZER_FILES if (folder / name).is_file()}
    if not (names & {"tokenizer.json", "tokenizer.model", "spiece.model"} or {"vocab.json", "merges.txt"} <= names):
        raise VlfilterError(
            f"{folder} has no tokenizer (tokenizer.json, vocab.json with merges.txt, or tokenizer.model): "
            "copy the tokenizer's files of the same checkpoint into it."
        )
    return [folder / name for name in TOKENIZER_FILES if name in names]
