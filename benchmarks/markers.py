"""Measured tables between markers in documents that people write."""

from __future__ import annotations

import re


def fill(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers begin:`name` and end:`name`."""
    pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there are no markers for {name}")
    return pattern.sub(lambda found: f"{found[1]}{content.strip()}\n{found[2]}", text)
