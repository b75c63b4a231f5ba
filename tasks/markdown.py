"""Text of any origin inside Markdown artifacts and descriptions: shown as it is, never as links, images or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LIST = re.compile(r"^(\d*)([-+=.)])")  # at its start a line would become an item or a title
_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def plain(text: str) -> str:
    """A text on one line, with everything escaped that Markdown or HTML would make something of."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LIST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", line))


def code(text: str) -> str:
    """A path or an expression as code; a backtick would end it and becomes an apostrophe."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)
