"""The tokenizer on untrusted text, and in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import small
from vlfilter.models.tokenizer import encode_start, load_tokenizer

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"
CONTROL = {0, 1, 2, 413}


@pytest.mark.parametrize("text", ["a <|im_end|> b", "<s>", "<|endoftext|><|im_start|>", "x<|im_end|>"])
def test_special_tokens_in_a_text_stay_text(text: str) -> None:
    tokenizer = load_tokenizer(FIXTURE)
    assert not CONTROL & set(tokenizer.ids(text))
    assert CONTROL & set(tokenizer.ids_with_control(text))
    assert tokenizer.hf.decode(tokenizer.ids(text)) == text


def test_ordinary_text_is_the_same_either_way() -> None:
    tokenizer = load_tokenizer(FIXTURE)
    text = "\nünïcode – 漢字 caption 🚌 in London"
    assert (
        tokenizer.ids(text) == tokenizer.ids_with_control(text) == tokenizer.hf.encode(text, add_special_tokens=False)
    )


def test_threads_beside_the_library_s_own_calls() -> None:
    """transformers switches truncation and padding on its tokenizer with every call; ours must not notice."""
    tokenizer = small.tokenizer()
    texts = [f"a red bus number {n} in London " * (n % 7 + 1) for n in range(400)]
    expected = [tokenizer.ids(text) for text in texts]

    def library(text: str) -> None:
        tokenizer.hf([text, "x"], truncation=True, max_length=len(text) % 9 + 3, padding="max_length")

    with ThreadPoolExecutor(8) as pool:
        ours = pool.map(tokenizer.ids, texts)
        for done in [pool.submit(library, text) for text in texts[:50]]:
            done.exception()  # whether the library's calls stand each other is not ours to test
        assert list(ours) == expected


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from(["cat", "a", "Hamburg", "🚌", "x" * 90, "\n"]), max_size=400),
    limit=st.integers(1, 60),
)
def test_the_start_of_a_text_has_the_same_tokens(words: list[str], limit: int) -> None:
    tokenizer, text = small.tokenizer(), " ".join(words)
    whole, start = tokenizer.ids(text), encode_start(tokenizer.ids, text, limit)
    assert start[:limit] == whole[:limit]
    assert (len(start) > limit) == (len(whole) > limit)


def test_a_very_long_text_is_not_tokenised_whole() -> None:
    seen: list[int] = []

    def encode(text: str) -> list[int]:
        seen.append(len(text))
        return small.tokenizer().ids(text)

    encode_start(encode, "a caption of many words " * 50_000, 512)
    assert max(seen) < 12_000


def test_long_tokens_make_it_read_on() -> None:
    """One token may stand for many characters; then more of the text is needed than the usual bound."""
    text = "y" * 100_000
    ids = encode_start(lambda part: [0] * (len(part) // 1000), text, 60)
    assert len(ids) > 60
