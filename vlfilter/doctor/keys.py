"""Which keys are there, and where from; never what they are."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from vlfilter.doctor.check import Check
from vlfilter.doctor.secrets import present
from vlfilter.llm.keys import VARIABLES
from vlfilter.scoring.vllm_client import KEY as VLLM

# Variable → (the Secret block that stands in for it, what it is for).
KEYS = {
    **{variable: (f"{vendor}-api-key", f"judges {vendor}:…") for vendor, variable in VARIABLES.items()},
    VLLM: ("", "a vLLM server that asks for one"),
    "HF_TOKEN": ("", "private and gated models of the hub"),
}


def check_keys(blocks: Collection[str]) -> Iterator[Check]:
    """One line a key; `blocks` are the names of the Secret blocks on the Prefect server."""
    for variable, (block, purpose) in KEYS.items():
        if present([variable]):
            yield _set(variable)
        elif block in blocks:
            yield Check("keys", "ok", f"{variable}: from the Secret block {block}")
        else:
            yield Check("keys", "note", f"{variable} is not set (only for {purpose})")


def _set(variable: str) -> Check:
    value = os.environ[variable].strip()
    if any(sign.isspace() or sign in "\"'" for sign in value) or not value.isascii():
        advice = "set it to the key alone"
        return Check("keys", "warn", f"{variable} is set, with quotes or white space inside that no key has", advice)
    return Check("keys", "ok", f"{variable} is set")
