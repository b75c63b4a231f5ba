"""How far a selection has come, kept beside its output, so that a run that was killed goes on."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import numpy as np

from vlfilter.data.storage import filesystem, read_bytes, write_bytes
from vlfilter.selection.diverse import State

SUFFIX = ".state.npz"


def read_state(output: str, fingerprint: str) -> State | None:
    """The state beside `output` that a run with the same fingerprint left behind, or None."""
    try:
        with np.load(io.BytesIO(read_bytes(output + SUFFIX)), allow_pickle=False) as saved:
            if json.loads(str(saved["made_from"])) != fingerprint:
                return None
            return State(saved["order"], saved["values"])
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def saver(output: str, fingerprint: str) -> Callable[[State], None]:
    """A function that keeps a state beside `output`: the last one or the new one is there, never half of it."""

    def save(state: State) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, made_from=json.dumps(fingerprint), order=state.order, values=state.values)
        write_bytes(output + SUFFIX, buffer.getvalue())

    return save


def forget_state(output: str) -> None:
    fs, path = filesystem(output + SUFFIX)
    if fs.exists(path):
        fs.rm_file(path)
