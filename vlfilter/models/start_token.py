"""A start and a padding token for tokenizers of language models that have none (Qwen's), as classifiers need them."""

from __future__ import annotations

from vlfilter.errors import VlfilterError
from vlfilter.models.tokenizer import TextTokenizer, wrap_tokenizer


def with_start_token(tokenizer: TextTokenizer, start: str | None, named: int | None, vocabulary: int) -> TextTokenizer:
    """The tokenizer with a bos, and with a padding token that is neither bos nor eos, as the published classifiers
    need it (their code takes every padding id out of a sequence).

    Where there is no bos it becomes `start`, else the token of id `named`. Changes `tokenizer.hf`. Raises
    `VlfilterError` when neither is given, or the tokens that are new do not fit into a `vocabulary` of that size.
    """
    hf = tokenizer.hf
    if hf.bos_token_id is None:
        token = start or (hf.convert_ids_to_tokens(named) if isinstance(named, int) else None)
        if token is None:
            raise VlfilterError("the tokenizer has no bos, and the model's config.json names none: give a start_token.")
        hf.add_special_tokens({"bos_token": token})
    taken = (None, hf.bos_token_id, hf.eos_token_id)
    if hf.pad_token_id in taken:
        hf.add_special_tokens({"pad_token": "[PAD]" if hf.unk_token_id in taken else hf.unk_token})
    if len(hf) > vocabulary:
        raise VlfilterError(
            f"with its bos and padding the tokenizer has {len(hf)} tokens, but the language model only {vocabulary}: "
            "give a start_token that it has already."
        )
    return wrap_tokenizer(hf, "the language model")
