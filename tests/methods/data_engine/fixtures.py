"""Where the data engine's fixtures lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

COPIED = Path(__file__).parents[2] / "fixtures" / "data_engine"
SHARED = Path(__file__).parents[4] / "shared" / "parity" / "data_engine"


def copied(name: str) -> Any:
    """A fixture that lies in the repository."""
    return _read(COPIED / name)


def shared(name: str) -> Path:
    """A file of the original's own (demo rows, prompt texts), which lies beside the repository or not at all."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this repository")
    return path


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
