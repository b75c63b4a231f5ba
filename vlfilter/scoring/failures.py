"""Why a shard has no table: a small note in the table's place, for `status` and for retries."""

from __future__ import annotations

import json

from vlfilter.data.storage import filesystem, join, read_bytes, write_bytes

SUFFIX = ".failed.json"


def note_failure(output: str, scorer: str, shard: str, reason: str) -> None:
    write_bytes(join(output, scorer, shard + SUFFIX), json.dumps({"reason": reason}).encode())


def clear_failure(output: str, scorer: str, shard: str) -> None:
    fs, path = filesystem(join(output, scorer, shard + SUFFIX))
    if fs.exists(path):
        fs.rm_file(path)


def read_failures(output: str, scorer: str) -> dict[str, str]:
    """Reasons by shard name."""
    fs, root = filesystem(join(output, scorer))
    if not fs.exists(root):
        return {}
    notes = [path for path in fs.find(root) if path.endswith(SUFFIX)]
    protocol = "s3://" if "s3" in fs.protocol else ""
    names = [path[len(root) :].lstrip("/").removesuffix(SUFFIX) for path in notes]
    return {name: json.loads(read_bytes(protocol + path))["reason"] for name, path in zip(names, notes, strict=True)}
