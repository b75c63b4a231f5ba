"""What is taken out of generated texts: boxes, and what is left of the words around them."""

from __future__ import annotations

import re

_BRACKETS = re.compile(r"\[.*?\]")
_NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)"
_BOX = rf"\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+\s*\]"
_BOXES = re.compile(rf"{_BOX}(?:\s+and\s+{_BOX})*")
_SPACES = re.compile(r" +")
_COMMAS = re.compile(r"(\s*,\s*)+")

COMPAT_AND = re.compile(r"\s*and\s*([,.?])")  # without a word boundary: "sand." becomes "s."
FIXED_AND = re.compile(r"(?:\s*\band\b)+\s*([,.?])")


def squeeze(text: str) -> str:
    """One blank for several, none at the ends; tabs and line ends inside stay."""
    return _SPACES.sub(" ", text).strip()


def clean_compat(text: str) -> str:
    """As the original: everything in square brackets goes, and every "and" before a mark, inside words too."""
    text = COMPAT_AND.sub(r"\1", _BRACKETS.sub("", text))
    return _marks(_COMMAS.sub(", ", text))


def clean_fixed(text: str) -> str:
    """Boxes only, "[…] and […]" as a whole, and the word "and" only. Cleaning twice changes nothing more."""
    while (cleaned := _fixed_once(text)) != text:
        text = cleaned
    return text


def _fixed_once(text: str) -> str:
    text = FIXED_AND.sub(r"\1", _BOXES.sub("", text))
    return _marks(_COMMAS.sub(_comma, text))


def _comma(found: re.Match[str]) -> str:
    """A comma inside a number (1,000) stays as it is."""
    text, (start, end) = found.string, found.span()
    inside = found[0] == "," and text[start - 1 : start].isdigit() and text[end : end + 1].isdigit()
    return "," if inside else ", "


def _marks(text: str) -> str:
    text = re.sub(r"\s*,\s*([.?])", r"\1", text)
    return squeeze(re.sub(r"\s*([,.?])", r"\1", text))
