"""The distribution over 0 to 100, from tokens: against the definition, and for every way of writing numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.scoring.mlm_models import llama_2_tokenizer, llama_3_tokenizer, qwen_tokenizer
from vlfilter.errors import VlfilterError
from vlfilter.models.tokenizer import TextTokenizer, wrap_tokenizer
from vlfilter.scoring.numbers import NUMBERS, NumberTree, entropy, expectation, space_token

DIGITS = NumberTree.build([tuple(int(digit) for digit in str(n)) for n in NUMBERS])
TOKENS = NumberTree.build([(200 + n,) for n in NUMBERS])
# "8" is written 8, "85" with a token of its own, "86" digit by digit
MIXED = NumberTree.build([(300 + n,) if n % 5 == 0 else tuple(int(digit) for digit in str(n)) for n in NUMBERS])
TREES = {"digits": DIGITS, "tokens": TOKENS, "mixed": MIXED}


def random_logs(tree: NumberTree, seed: int, sharpness: float) -> np.ndarray:
    """Log-probabilities of the alphabet in a larger vocabulary, float32, for each node."""
    logits = np.random.default_rng(seed).normal(size=(len(tree.nodes), len(tree.alphabet) + 20)) * sharpness
    logs = (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )
    return logs[:, : len(tree.alphabet)].astype(np.float32)


def by_definition(paths: list[tuple[int, ...]], probability: Any) -> np.ndarray:
    """Numbers as products of `probability(prefix, token)`; one that longer ones begin with must end there."""
    weights = []
    for path in paths:
        weight = math.prod(probability(path[:k], path[k]) for k in range(len(path)))
        going_on = {other[len(path)] for other in paths if len(other) > len(path) and other[: len(path)] == path}
        weights.append(weight * (1 - sum(probability(path, token) for token in going_on)))
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("seed", range(5))
def test_the_distribution_is_the_definition(name: str, seed: int) -> None:
    tree = TREES[name]
    logs = random_logs(tree, seed, 2.0).astype(np.float64)
    paths = [tuple(tree.alphabet[letter] for _, letter in path) for path in tree.steps]
    wanted = by_definition(
        paths, lambda prefix, token: math.exp(logs[tree.nodes.index(prefix), tree.alphabet.index(token)])
    )
    assert tree.distribution(logs) == pytest.approx(wanted, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(TREES)), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_it_is_a_distribution(name: str, seed: int, sharpness: float) -> None:
    tree = TREES[name]
    logs = np.stack([random_logs(tree, seed + i, sharpness) for i in range(3)])
    probabilities = tree.distribution(logs)
    assert probabilities.shape == (3, 101)
    assert (probabilities >= 0).all()
    assert probabilities.sum(-1) == pytest.approx(np.ones(3), abs=1e-12)
    assert ((expectation(probabilities) >= 0) & (expectation(probabilities) <= 100)).all()
    assert ((entropy(probabilities) >= 0) & (entropy(probabilities) <= math.log(101) + 1e-12)).all()
    assert probabilities[1] == pytest.approx(tree.distribution(logs[1]), abs=1e-15)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_certain_model_is_taken_at_its_word(name: str, number: int) -> None:
    """All probability on one number's tokens, and on none that goes on: "10" is 10, "1", "0", "0" is 100."""
    tree = TREES[name]
    logs = np.full((len(tree.nodes), len(tree.alphabet)), -50.0)
    for node, letter in tree.steps[number]:
        logs[node, letter] = 0
    probabilities = tree.distribution(logs)
    assert int(probabilities.argmax()) == number
    assert float(expectation(probabilities)) == pytest.approx(number, abs=1e-6)
    assert float(entropy(probabilities)) == pytest.approx(0, abs=1e-6)


def test_an_even_model_knows_nothing() -> None:
    logs = np.full((1, 101), -9.0)
    assert float(expectation(TOKENS.distribution(logs))) == pytest.approx(50)
    assert float(entropy(TOKENS.distribution(logs))) == pytest.approx(math.log(101))


def test_impossible_tokens_are_no_trouble() -> None:
    logs = np.full((len(DIGITS.nodes), len(DIGITS.alphabet)), -np.inf)
    logs[0, DIGITS.alphabet.index(7)] = 0
    assert DIGITS.distribution(logs)[7] == pytest.approx(1)


@pytest.mark.parametrize(
    ("tokenizer", "nodes", "alphabet"),
    [(qwen_tokenizer, 11, 10), (llama_2_tokenizer, 11, 10), (llama_3_tokenizer, 1, 101)],
)
def test_trees_of_tokenizers(tokenizer: Any, nodes: int, alphabet: int) -> None:
    made: TextTokenizer = tokenizer()
    tree = NumberTree.of(made)
    assert (len(tree.nodes), len(tree.alphabet)) == (nodes, alphabet)
    assert tree.nodes[0] == ()
    for number, path in enumerate(tree.steps):
        written = [tree.alphabet[letter] for _, letter in path]
        assert made.hf.decode(written).strip() == str(number)
        assert [len(tree.nodes[node]) for node, _ in path] == list(range(len(path)))
    assert all(tree.nodes[tree.parent(i)] == node[:-1] for i, node in enumerate(tree.nodes) if i)


def test_blanks() -> None:
    assert space_token(qwen_tokenizer()) == 223
    assert llama_3_tokenizer().hf.decode([space_token(llama_3_tokenizer())]) == " "
    assert llama_2_tokenizer().hf.convert_ids_to_tokens(space_token(llama_2_tokenizer())) == "▁"


def wordy(vocabulary: list[str]) -> TextTokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrap_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>"),
        "words",
        needs_bos=False,
    )


def test_a_tokenizer_without_numbers_is_refused() -> None:
    with pytest.raises(VlfilterError, match="no tokens for the number 0: it does not fit MLM-Filter"):
        NumberTree.of(wordy(["<unk>", "</s>", "cat"]))
    with pytest.raises(VlfilterError, match="no tokens for the number 100"):
        NumberTree.of(wordy(["<unk>", "</s>", *map(str, range(100))]))
    with pytest.raises(VlfilterError, match=r"no token for a blank.*space=trained"):
        space_token(wordy(["<unk>", "</s>", "cat"]))
    with pytest.raises(VlfilterError, match="two numbers with the same tokens"):
        NumberTree.build([(1,)] * 101)
