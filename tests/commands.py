"""The commands that the documents show, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Shown:
    """One command of a document; `words` as a shell would split it, comments gone."""

    document: str
    line: str
    words: tuple[str, ...]


def commands(document: Path) -> list[Shown]:
    """All that stands in the document's shell blocks, lines that go on joined."""
    found = []
    for block in _BLOCK.findall(document.read_text()):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = tuple(shlex.split(line, comments=True))
            if words:
                found.append(Shown(document.name, line.strip(), words))
    return found
