"""BERT's uncased WordPiece ids as BLIP's tokenizer makes them (`BertTokenizer` with the two tokens added)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from vlfilter.errors import VlfilterError
from vlfilter.models.tokenizer import CHARS_PER_TOKEN

_CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ADDED = ("[DEC]", "[ENC]")  # BLIP's: ids follow the vocabulary
_BLANKS = re.compile(r"[ \t\n\r]+")


class WordPieces:
    """`[CLS]`, at most `length` - 2 tokens, `[SEP]`, padded to `length`. Called in several threads at a time.

    With `control_tokens` a special token's text acts as that token, as the library does; else it stays text.
    """

    def __init__(self, vocabulary: Path, length: int, control_tokens: bool = False):
        words = _read(vocabulary)
        pieces = models.WordPiece(words, unk_token="[UNK]", max_input_chars_per_word=100)  # noqa: S106
        tokenizer = Tokenizer(pieces)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (*_CONTROL, *_ADDED)])
        tokenizer.encode_special_tokens = self._as_text = not control_tokens
        self._tokenizer = tokenizer
        self._length = length
        self._first, self._last, self.pad = words["[CLS]"], words["[SEP]"], words["[PAD]"]
        self.size = tokenizer.get_vocab_size()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._tokenizer.encode_special_tokens = self._as_text  # which pickling a tokenizer loses

    def __call__(self, text: str) -> tuple[list[int], int, bool]:
        """(`length` ids, how many of them count, whether the text was cut)."""
        room = self._length - 2
        found = self._start(text, room)
        ids = [self._first, *found[:room], self._last]
        return ids + [self.pad] * (self._length - len(ids)), len(ids), len(found) > room

    def _start(self, text: str, room: int) -> list[int]:
        """The ids of as many whole words as make more than `room` of them, if there are so many.

        Words are never cut: BERT reads one of over 100 characters as unknown, and its beginning as many pieces.
        """
        chars = CHARS_PER_TOKEN * room
        if len(text) > chars:
            text = _BLANKS.sub(" ", text)  # as the tokenizer reads it; blanks must not use up the bound
        while chars < len(text):
            ids = self._ids(text[: text.rfind(" ", 0, chars) + 1])
            if len(ids) > room:
                return ids
            chars *= 8
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _read(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise VlfilterError(f"the vocabulary {path} cannot be read: {error}") from error
    words = {line.rstrip("\r"): index for index, line in enumerate(lines) if line.strip() or index + 1 < len(lines)}
    if missing := [token for token in _CONTROL if token not in words]:
        raise VlfilterError(f"{path} is no vocabulary of BERT: it lacks {', '.join(missing)}.")
    return words
