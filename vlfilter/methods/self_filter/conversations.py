"""A LLaVA entry as one line of text, as Self-Filter's features and judge see it (arXiv 2402.12501, its preprocess)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlfilter.data.samples import SampleError, Status

IMAGE_MARK = "<image>"
ROLES = (("human", "USER"), ("gpt", "ASSISTANT"))


@dataclass(frozen=True, slots=True)
class Row:
    """One entry. `text` is None when it cannot be made; `status` and `reason` tell whether the row can be used."""

    id: int
    image: str | None
    text: str | None
    status: Status = Status.OK
    reason: str | None = None


def conversation_text(conversations: Any) -> str:
    """`USER: … ASSISTANT: …`, turns in order, the human first; none at all is "".

    Where a question holds `<image>`, each of them is removed and the question stripped; all else stays as written.
    Raises `SampleError` where the published script fails: another speaker, or one out of turn.
    """
    if not isinstance(conversations, list):
        raise SampleError(Status.MISSING_TEXT, "the entry has no list of conversations")
    parts = []
    for i, turn in enumerate(conversations):
        speaker, role = ROLES[i % 2]
        said, value = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if said != speaker:
            raise SampleError(Status.UNSUPPORTED, f"turn {i} is from {said!r}, expected {speaker!r}")
        if not isinstance(value, str):
            raise SampleError(Status.MISSING_TEXT, f"turn {i} is no text")
        if speaker == "human" and IMAGE_MARK in value:
            value = value.replace(IMAGE_MARK, "").strip()
        parts.append(f"{role}: {value} ")
    return "".join(parts).strip()


def make_row(number: int, entry: Any) -> Row:
    """The row of the entry at position `number`. Never fails: what is wrong with an entry becomes its reason."""
    if not isinstance(entry, dict):
        return Row(number, None, None, Status.UNSUPPORTED, f"the entry is no object but {type(entry).__name__}")
    image = entry.get("image")
    path = image if isinstance(image, str) and image and _storable(image) else None
    try:
        text = conversation_text(entry.get("conversations"))
    except SampleError as error:
        return Row(number, path, None, error.status, error.reason)
    if not _storable(text):
        return Row(number, path, None, Status.UNSUPPORTED, "the text holds half a character (a lone surrogate)")
    if path is None and image not in (None, ""):
        kind = f"a list of {len(image)}" if isinstance(image, list) else f"{image!r}"[:80]
        return Row(number, None, text, Status.UNSUPPORTED, f"image is no single path but {kind}")
    if path is None and "video" in entry:
        return Row(number, None, text, Status.UNSUPPORTED, "the entry is about a video")
    if not text:
        return Row(number, path, text, Status.MISSING_TEXT, "the conversation is empty")
    return Row(number, path, text)


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
