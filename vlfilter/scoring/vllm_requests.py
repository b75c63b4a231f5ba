"""What is asked of a vLLM server about one image: the log-probabilities of number tokens, or the answer's own tokens.

vLLM tells the log-probabilities of any given tokens at every position that it generates (`logprob_token_ids`), over the
whole vocabulary and before anything is forbidden, while `allowed_token_ids` decides what it generates. So one request
of two tokens that may only write "8" tells what the first token would be and what follows "8". The first request about
a question lets the model choose among the number tokens, and thereby also tells what follows its likeliest; then one
request for every other first token that has more than a millionth of the mass. A tokenizer that writes each number as
one token needs a single request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfilter.scoring.numbers import NumberTree
from vlfilter.scoring.vllm_client import RefusedError, Session

NEGLIGIBLE = 1e-6  # of the mass of all numbers: what follows a token below it moves a score by less than 0.001
IMPOSSIBLE = -9999.0  # vLLM's own smallest log-probability
MOST_LETTERS = 128  # tokens whose log-probabilities vLLM tells in one request
DEEPEST = 2  # tokens before the last one of a number


@dataclass(frozen=True, slots=True)
class Position:
    """One generated token, and the log-probabilities that were asked for there."""

    token: int
    logs: dict[int, float]


Ask = Callable[[str, Sequence[int], int], Awaitable[list[Position]]]  # (text after the prompt, allowed tokens, length)


class ImageChannel:
    """Requests about one image. Its bytes travel once: the server keeps them under `uuid`, later requests name that.

    A server without that cache, or that has dropped the image, gets the bytes again.
    """

    def __init__(self, session: Session, model: str, url: str, uuid: str):
        self._session = session
        self._model = model
        self._url = url
        self._uuid = uuid
        self._known = False

    async def chat(self, prompt: str, length: int, **fields: Any) -> dict[str, Any]:
        """The answer to `prompt` (exact text with `<image>`), at most `length` tokens, greedily."""
        try:
            answer = await self._session.chat(self._body(prompt, length, fields, self._known))
        except RefusedError as error:
            if not self._known or "Cache miss" not in str(error):
                raise
            answer = await self._session.chat(self._body(prompt, length, fields, False))
        self._known = True
        return answer

    def _body(self, prompt: str, length: int, fields: dict[str, Any], known: bool) -> dict[str, Any]:
        image = {"type": "image_url", "image_url": None if known else {"url": self._url}, "uuid": self._uuid}
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": [image]}],
            "chat_template_kwargs": {"exact_prompt": prompt},
            "max_tokens": length,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 0,
            "return_tokens_as_token_ids": True,
            **fields,
        }


def positions(answer: dict[str, Any]) -> list[Position]:
    """The generated tokens of an answer. Raises `RefusedError` for an answer that is not vLLM's."""
    try:
        content = answer["choices"][0]["logprobs"]["content"]
        return [
            Position(_id(entry["token"]), {_id(top["token"]): float(top["logprob"]) for top in entry["top_logprobs"]})
            for entry in content
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RefusedError(f"the answer holds no log-probabilities by token id ({type(error).__name__})") from error


def _id(token: str) -> int:
    return int(token.removeprefix("token_id:"))


async def read_tree(ask: Ask, tree: NumberTree, written: Callable[[Sequence[int]], str]) -> np.ndarray:
    """Log-probabilities (nodes, alphabet) for `tree.distribution`; `written` gives the text of tokens.

    Nodes with a negligible share of the mass are left impossible, as if the number ended there.
    """
    logs = np.full((len(tree.nodes), len(tree.alphabet)), IMPOSSIBLE)
    places = {node: i for i, node in enumerate(tree.nodes)}
    letters = {token: i for i, token in enumerate(tree.alphabet)}
    known: set[tuple[int, ...]] = set()

    def note(node: tuple[int, ...], position: Position) -> None:
        if node not in places:
            return
        if missing := [token for token in tree.alphabet if token not in position.logs]:
            raise RefusedError(f"the server left out {len(missing)} of the log-probabilities that were asked for")
        logs[places[node]] = [position.logs[token] for token in tree.alphabet]
        known.add(node)

    def share(node: tuple[int, ...]) -> float:
        """Of the mass of all first tokens, that of the numbers which begin with a node."""
        log = sum(logs[places[node[:k]], letters[node[k]]] for k in range(len(node)))
        return math.exp(log - np.logaddexp.reduce(logs[0, starts]))

    starts = sorted({path[0][1] for path in tree.steps})
    deep = len(tree.nodes) > 1
    found = await ask("", tree.alphabet, 2 if deep else 1)
    note((), found[0])
    if deep and len(found) > 1:
        note((found[0].token,), found[1])

    async def follow(node: tuple[int, ...]) -> None:
        found = await ask(written(node[:-1]) if node[:-1] else "", node[-1:], 2)
        if len(found) < 2:
            raise RefusedError("the server stopped before the second token")
        note(node, found[1])

    for length in range(1, DEEPEST + 1):
        level = [node for node in tree.nodes if len(node) == length and node not in known]
        await asyncio.gather(*(follow(node) for node in level if share(node) > NEGLIGIBLE))
    return logs
