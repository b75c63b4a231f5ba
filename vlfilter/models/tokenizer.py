"""A checkpoint's tokenizer, used in several threads and on untrusted text; also CLIP's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json, tokenizer_files

CHARS_PER_TOKEN = 20


@dataclass(frozen=True)
class TextTokenizer:
    """`plain` reads special-token strings in a text as ordinary text, `control` as control tokens (the published way).

    Both are loaded once and never changed afterwards: switching a tokenizer's truncation, padding or splitting while
    another thread encodes fails with "Already borrowed". `hf` is the transformers tokenizer, for saving; pickling
    leaves it behind.
    """

    hf: Any
    plain: Tokenizer
    control: Tokenizer
    bos: int | None
    eos: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_text, (self.control.to_str(), self.bos, self.eos)  # pickled, `plain` would forget what it is

    @property
    def start(self) -> int:
        """The bos id of a tokenizer that was loaded with `needs_bos`."""
        if self.bos is None:
            raise VlfilterError("the tokenizer has no bos_token, and this model's sequences start with one.")
        return self.bos

    @property
    def automatic_bos(self) -> int | None:
        """The bos id if the tokenizer itself begins a text with it, as Llama's does and Qwen's does not."""
        ids = self.control.encode("a", add_special_tokens=True).ids
        return self.bos if self.bos is not None and ids[:1] == [self.bos] else None

    def ids(self, text: str) -> list[int]:
        """Token ids of untrusted text, without bos or eos: no string in it becomes a control token."""
        ids: list[int] = self.plain.encode(text, add_special_tokens=False).ids
        return ids

    def ids_with_control(self, text: str) -> list[int]:
        """Token ids as the published scripts make them: `<|im_end|>` in a text becomes the control token."""
        ids: list[int] = self.control.encode(text, add_special_tokens=False).ids
        return ids


def load_tokenizer(folder: Path, *, needs_bos: bool = True) -> TextTokenizer:
    """The tokenizer in a checkpoint's folder. Raises `VlfilterError` when it cannot be read or has no bos or eos."""
    tokenizer_files(folder)
    return wrap_tokenizer(_transformers_tokenizer(folder), str(folder), needs_bos=needs_bos)


def wrap_tokenizer(hf: Any, origin: str, *, needs_bos: bool = True) -> TextTokenizer:
    """A fast transformers tokenizer made fit for threads. Raises `VlfilterError` when it has no bos or eos.

    Qwen's language models have no bos; a classifier's sequences start with one.
    """
    for name, token in (("bos_token", hf.bos_token_id), ("eos_token", hf.eos_token_id)):
        if token is None and (needs_bos or name == "eos_token"):
            raise VlfilterError(
                f"the tokenizer in {origin} has no {name}: a base model's tokenizer does not fit; "
                "copy the tokenizer's files that came with the trained checkpoint."
            )
    return _from_text(hf.backend_tokenizer.to_str(), hf.bos_token_id, int(hf.eos_token_id), hf)


def _from_text(text: str, bos: int | None, eos: int, hf: Any = None) -> TextTokenizer:
    """From the JSON of a tokenizer of the library tokenizers."""
    plain, control = Tokenizer.from_str(text), Tokenizer.from_str(text)
    for tokenizer in (plain, control):
        tokenizer.no_truncation()
        tokenizer.no_padding()
    plain.encode_special_tokens = True
    return TextTokenizer(hf, plain, control, bos, eos)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 1000, max_length: int = 77, phrases: Sequence[str] = ()
) -> TextTokenizer:
    """A small byte-level BPE tokenizer of some texts, for tests and demos that download nothing; digits are tokens.

    `max_length` is what CLIP's text tower cuts at; each of `phrases` becomes one more token, however long. Save it
    with `.hf.save_pretrained(folder)`.
    """
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<unk>", "<s>", "</s>"]  # eos must not be 2: transformers reads that as CLIP's old, wrong eos
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)  # as Llama 2 and Qwen write numbers
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), specials, strict=True))
    hf = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, clean_up_tokenization_spaces=False, **names
    )
    return wrap_tokenizer(hf, "a trained tokenizer")


def _transformers_tokenizer(folder: Path) -> Any:
    # AutoTokenizer would ask the config's model_type, which transformers does not know for these checkpoints.
    from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

    try:
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder)
        classes: dict[str, Any] = {"Qwen2Tokenizer": Qwen2Tokenizer, "LlamaTokenizer": LlamaTokenizer,
                                   "GemmaTokenizer": GemmaTokenizer}  # fmt: skip
        path = folder / "tokenizer_config.json"
        named = str(read_json(path).get("tokenizer_class", "")).removesuffix("Fast") if path.is_file() else ""
        fallback = "Qwen2Tokenizer" if (folder / "merges.txt").is_file() else "LlamaTokenizer"
        return classes.get(named, classes[fallback]).from_pretrained(folder)
    except Exception as error:  # the libraries raise many families of errors for a broken file
        raise VlfilterError(f"the tokenizer in {folder} cannot be read: {type(error).__name__}: {error}") from error


def encode_start(encode: Callable[[str], list[int]], text: str, limit: int) -> list[int]:
    """At least `limit` + 1 ids of a text if it has so many, without tokenising all of a very long one.

    Only the start is tokenised, 20 characters a token, and more of it where tokens turn out longer.
    """
    chars = CHARS_PER_TOKEN * limit + 100
    while True:
        ids = encode(text[:chars])
        if len(text) <= chars or len(ids) > limit + 1:
            return ids
        chars *= 8
