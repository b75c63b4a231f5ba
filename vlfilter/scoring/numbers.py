"""A language model's distribution over the answers 0 to 100, from the probabilities of its own number tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfilter.errors import VlfilterError
from vlfilter.models.tokenizer import TextTokenizer

NUMBERS = range(101)
_BLANKS = ("▁", "Ġ")  # how SentencePiece and byte-level vocabularies write a blank


@dataclass(frozen=True, slots=True)
class NumberTree:
    """How a tokenizer writes the numbers 0 to 100, as a tree of tokens.

    `nodes` are the prefixes after which the next token decides: () first, and for tokenizers that write digit by digit
    "1" … "9" and "10"; parents come before children. `alphabet` holds the ids of all tokens in the tree. `steps[n]` are
    the (node, position in the alphabet) pairs whose probabilities multiply to the number n, and `ends[n]` the node at
    which n must end where longer numbers begin with it (-1: nothing follows).
    """

    nodes: tuple[tuple[int, ...], ...]
    alphabet: tuple[int, ...]
    steps: tuple[tuple[tuple[int, int], ...], ...]
    ends: tuple[int, ...]

    @staticmethod
    def of(tokenizer: TextTokenizer) -> NumberTree:
        """The tree of a tokenizer. Raises `VlfilterError` when it cannot write the numbers apart."""
        return NumberTree.build([_written(tokenizer, number) for number in NUMBERS])

    @staticmethod
    def build(paths: Sequence[tuple[int, ...]]) -> NumberTree:
        """The tree of 101 different sequences of token ids."""
        if len(set(paths)) != len(NUMBERS):
            raise VlfilterError("the tokenizer writes two numbers with the same tokens: it does not fit MLM-Filter.")
        prefixes = {path[:k] for path in paths for k in range(len(path))}
        nodes = tuple(sorted(prefixes, key=lambda prefix: (len(prefix), prefix)))
        alphabet = tuple(sorted({token for path in paths for token in path}))
        node_at = {node: i for i, node in enumerate(nodes)}
        letter_at = {token: i for i, token in enumerate(alphabet)}
        steps = tuple(tuple((node_at[path[:k]], letter_at[path[k]]) for k in range(len(path))) for path in paths)
        return NumberTree(nodes, alphabet, steps, tuple(node_at.get(path, -1) for path in paths))

    def parent(self, node: int) -> int:
        """The node that a node (not the first) follows."""
        return self.nodes.index(self.nodes[node][:-1])

    def distribution(self, log_probabilities: np.ndarray) -> np.ndarray:
        """Log-probabilities (…, nodes, alphabet) over the whole vocabulary → probabilities (…, 101) in float64.

        A number's probability is the product of its tokens'; where a longer number begins with it ("8", "10"), times
        the probability that none of those follows. Normalised over the 101 numbers. As the published reading does, a
        number ends where no number up to 100 could go on: what follows "85" is not asked.
        """
        logs = np.asarray(log_probabilities, dtype=np.float64)
        children: list[set[int]] = [set() for _ in self.nodes]
        for path in self.steps:
            for node, letter in path:
                children[node].add(letter)
        stop = np.stack(
            [np.log(np.clip(1 - np.exp(logs[..., i, sorted(letters)]).sum(-1), 1e-300, 1)) for i, letters in
             enumerate(children)], axis=-1,
        )  # fmt: skip
        columns = []
        for path, end in zip(self.steps, self.ends, strict=True):
            total = sum(logs[..., node, letter] for node, letter in path)
            columns.append(total + stop[..., end] if end >= 0 else total)
        weights = np.stack(columns, axis=-1)
        weights = np.exp(weights - weights.max(-1, keepdims=True))
        normal: np.ndarray = weights / weights.sum(-1, keepdims=True)
        return normal


def expectation(probabilities: np.ndarray) -> np.ndarray:
    """(…, 101) → the expected number, 0 to 100."""
    mean: np.ndarray = probabilities @ np.arange(len(NUMBERS), dtype=np.float64)
    return mean


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """(…, 101) → entropy in nats: 0 when certain, ln 101 = 4.6 when every number is as likely."""
    logs = np.log(np.clip(probabilities, 1e-300, 1))
    spread: np.ndarray = -(probabilities * logs).sum(-1)
    return spread + 0.0  # no -0.0


def space_token(tokenizer: TextTokenizer) -> int:
    """The id of a blank, which the published scripts put before the answer: Llama 2: 29871, Qwen and Llama 3: 220."""
    vocabulary: dict[str, int] = tokenizer.hf.get_vocab()
    if "▁" in vocabulary:
        return vocabulary["▁"]
    ids = tokenizer.ids(" ")
    if not ids:
        raise VlfilterError(
            "the tokenizer has no token for a blank: it does not fit MLM-Filter (option space=trained)."
        )
    return ids[-1]


def _written(tokenizer: TextTokenizer, number: int) -> tuple[int, ...]:
    ids = tokenizer.ids(str(number))
    tokens: Any = tokenizer.hf.convert_ids_to_tokens(ids)
    while tokens and tokens[0] in _BLANKS:
        ids, tokens = ids[1:], tokens[1:]
    if not ids or tokenizer.hf.unk_token_id in ids or tokenizer.hf.decode(ids).strip() != str(number):
        raise VlfilterError(f"the tokenizer has no tokens for the number {number}: it does not fit MLM-Filter.")
    return tuple(ids)
