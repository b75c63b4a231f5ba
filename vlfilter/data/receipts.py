"""What made a file, kept beside it: a step is done when its file is the one that the same input would make again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vlfilter.data.storage import filesystem, open_read, read_bytes, write_bytes
from vlfilter.errors import VlfilterError

SUFFIX = ".receipt.json"
_BLOCK = 2**20


def file_digest(url: str) -> str:
    """SHA-256 of a file's bytes. Raises `VlfilterError` when there is none."""
    state = hashlib.sha256()
    try:
        with open_read(url) as file:
            while block := file.read(_BLOCK):
                state.update(block)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    return state.hexdigest()


def write_receipt(url: str, parts: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Say of the finished file `url` what made it (`parts`: all that changes its content) and what came of it.

    Written after the file, so that a receipt never vouches for one that is not there. Returns `summary`.
    """
    record = {"parts": dict(parts), "summary": dict(summary), "sha256": file_digest(url)}
    write_bytes(url + SUFFIX, json.dumps(record, indent=1, sort_keys=True).encode())
    return dict(summary)


def finished(url: str, parts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a file that is there, unchanged, and made from the same `parts`; else None."""
    record = _read(url)
    if record is None or record.get("parts") != json.loads(json.dumps(parts)):
        return None
    if not exists(url) or file_digest(url) != record.get("sha256"):
        return None
    summary: dict[str, Any] = record["summary"]
    return summary


def exists(url: str) -> bool:
    fs, path = filesystem(url)
    return bool(fs.isfile(path))


def _read(url: str) -> dict[str, Any] | None:
    try:
        record = json.loads(read_bytes(url + SUFFIX))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("summary"), dict) else None
