"""Captions to CLIP's token ids: cut to the text tower's length like the libraries do, eot kept, and told when cut."""

from __future__ import annotations

import re
import threading
from typing import Any, Protocol

from vlfilter.models.tokenizer import CHARS_PER_TOKEN, TextTokenizer, encode_start, wrap_tokenizer

CACHED_WORDS = 200_000
_OPEN_CLIP_CONTROL = re.compile(r"<(start|end)_of_text>", re.IGNORECASE)


class CaptionTokens(Protocol):
    """Called in several threads at a time. `pad` fills shorter rows of a batch; no score depends on it."""

    pad: int

    def __call__(self, caption: str) -> tuple[list[int], bool]:
        """The ids, bos and eot included, and whether the caption was cut."""
        ...


class HfCaptions:
    """A transformers CLIP tokenizer: bos, at most `context` - 2 tokens, eos."""

    def __init__(self, tokenizer: TextTokenizer, context: int, control_tokens: bool):
        self._tokenizer = tokenizer
        self._context = context
        self._encode = tokenizer.ids_with_control if control_tokens else tokenizer.ids
        self.pad = tokenizer.eos  # attention is causal and the first eos is read: nothing behind it counts

    def __call__(self, caption: str) -> tuple[list[int], bool]:
        room = self._context - 2
        ids = encode_start(self._encode, caption, room)
        return [self._tokenizer.start, *ids[:room], self._tokenizer.eos], len(ids) > room


def openai_tokenizer() -> TextTokenizer:
    """CLIP's own tokenizer (49,408 tokens) in the transformers layout, from the vocabulary that open_clip ships."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    shipped = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): index for token, index in shipped.encoder.items()}
    merges = sorted(shipped.bpe_ranks, key=shipped.bpe_ranks.get)
    hf = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=int(shipped.context_length))
    return wrap_tokenizer(hf, "open_clip's vocabulary")


class _WordCache(dict[str, str]):
    """open_clip's tokenizer keeps every word it ever saw; millions of captions would fill the memory."""

    def __setitem__(self, word: str, tokens: str) -> None:
        if len(self) < CACHED_WORDS:
            super().__setitem__(word, tokens)


class OpenClipCaptions:
    """open_clip's own tokenizer for a model, rows of full length as its models want them."""

    pad = 0  # never needed: all rows have the same length

    def __init__(self, tokenizer: Any, control_tokens: bool):
        self._tokenizer = tokenizer
        self._context = int(tokenizer.context_length)
        self._control_tokens = control_tokens
        # tokenizers of transformers change their state to cut and pad, and must not do so in two threads at a time
        self._lock = threading.Lock()
        self._is_hf = hasattr(tokenizer, "tokenizer")
        if hasattr(tokenizer, "cache"):
            tokenizer.cache = _WordCache(tokenizer.cache)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def __call__(self, caption: str) -> tuple[list[int], bool]:
        bound = CHARS_PER_TOKEN * self._context
        if len(caption) > bound:
            caption = " ".join(caption.split())  # as the tokenizer does; blanks must not use up the bound
        start = caption[:bound]
        if not self._control_tokens:
            start = _OPEN_CLIP_CONTROL.sub(r"< \1_of_text>", start)
        if self._is_hf:
            with self._lock:
                row, length = self._row(start), len(self._tokenizer.tokenizer(start).input_ids)
        else:
            row = self._row(start)
            # only a full row can have been cut, so only then is the caption counted
            length = len(self._tokenizer.encode(start)) + 2 if row[-1] else 0
        return row, length > self._context or len(caption) > bound

    def _row(self, caption: str) -> list[int]:
        ids: list[int] = self._tokenizer(caption)[0].tolist()
        return ids
