"""Score tables that are whole but shall be made again: a note beside a scorer's tables, which makes them stale.

The note names each table by the moment it was made, so it says nothing of the one that takes its place: whoever looks
sees what is left to do, and a retry that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vlfilter.data.storage import join, read_bytes, write_bytes
from vlfilter.errors import VlfilterError

AGAIN_FILE = "again.json"


def ask_again(output: str, scorer: str, tables: Mapping[str, str], asked_by: str) -> None:
    """Ask for the tables of some shards (name → `Footer.made`) to be replaced; an earlier note is replaced too."""
    note = {"asked_by": asked_by, "tables": dict(tables)}
    write_bytes(join(output, scorer, AGAIN_FILE), json.dumps(note, indent=1, sort_keys=True).encode())


def read_again(output: str, scorer: str) -> dict[str, str]:
    """Shard names with the moment at which the table to be replaced was made."""
    tables: dict[str, str] = _read(output, scorer).get("tables") or {}
    return tables


def asked_by(output: str, scorer: str) -> str:
    """Who has asked last; "" where nobody has."""
    return str(_read(output, scorer).get("asked_by", ""))


def _read(output: str, scorer: str) -> dict[str, Any]:
    url = join(output, scorer, AGAIN_FILE)
    try:
        note: dict[str, Any] = json.loads(read_bytes(url))
        return note
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise VlfilterError(f"{url} is damaged ({error}): remove it.") from None
