"""Multiple choice by letter: how the options are put, and which of them a free text means."""

from __future__ import annotations

import re
from collections.abc import Mapping

INSTRUCTION = "Answer with the option's letter from the given choices directly."
_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_LED = re.compile(r"\s*(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z])[.):,])(?!\w)")
_SAID = re.compile(r"(?i:\b(?:answer|option|choice)\b(?:\s+(?:is|would be))?)\s*:?\s*[(\[\"'*]*([A-Z])\b")
_STANDING = re.compile(r"(?<![\w'])\(?([A-Z])\)?(?![\w'])")
_WORDS = re.compile(r"\w+")


def lettered_question(question: str, options: Mapping[str, str]) -> str:
    """The question, a line for each option, and the request for a letter."""
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items()), INSTRUCTION])


def first_letter(text: str, letter: str) -> bool:
    """The published rule: the first character counts, so that "an apple" is A and "(C)" nothing."""
    return text[:1].lower() == letter.lower() != ""


def chosen_letter(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that a text means; None where it means none, or more than one.

    In this order: a letter alone; a letter with a bracket or stop in front of the rest; a letter behind "answer is",
    "option" or the like; the text of one option; one capital letter in the text, unless it is the article A; the one
    option whose words stand in the text.
    """
    known = {letter.upper(): letter for letter in options}
    for rule in (_ALONE.fullmatch, _LED.match, _SAID.search):
        found = rule(text)
        letter = next((group for group in found.groups() if group), "") if found else ""
        if letter.upper() in known:
            return known[letter.upper()]
    said = _plain(text)
    same = [letter for letter, option in options.items() if said and _plain(option) == said]
    if same:
        return same[0] if len(same) == 1 else None
    standing = {match[1] for match in _STANDING.finditer(text) if not _article(text, match)} & set(known)
    if len(standing) == 1:
        return known[standing.pop()]
    inside = [letter for letter, option in options.items() if _plain(option) and f" {_plain(option)} " in f" {said} "]
    return inside[0] if len(inside) == 1 else None


def _plain(text: str) -> str:
    return " ".join(_WORDS.findall(text.lower()))


def _article(text: str, match: re.Match[str]) -> bool:
    """`A` before another word: "A dog is there". Also the pronoun I."""
    return match[0] in ("A", "I") and text[match.end() :].lstrip(" ")[:1].isalnum()
