"""Before a run: does the server read our questions token by token as we do, and tell what the model gives?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfilter.errors import VlfilterError
from vlfilter.scoring.mlm_filter_text import IMAGE
from vlfilter.scoring.numbers import NumberTree
from vlfilter.scoring.vllm_client import RefusedError, ServedModel
from vlfilter.scoring.vllm_requests import DEEPEST, IMPOSSIBLE, MOST_LETTERS, ImageChannel, positions

ADVICE = (
    "The server must be vLLM (0.32 was tried) with a folder that `vlfilter models export-hf` wrote of this checkpoint, "
    "without a --chat-template or --logprobs-mode of its own."
)


def check_tree(tree: NumberTree) -> None:
    """Raises `VlfilterError` for a tokenizer whose number tokens cannot be asked for."""
    longest = max(len(node) for node in tree.nodes) + 1
    if len(tree.alphabet) > MOST_LETTERS or longest > DEEPEST + 1:
        raise VlfilterError(
            f"the tokenizer writes the numbers with {len(tree.alphabet)} different tokens, up to {longest} a number: "
            "more than the vLLM backend reads."
        )


def check_length(model: ServedModel, question: int, caption: int) -> None:
    """Raises `VlfilterError` when the server cuts sequences short of the longest question and caption, in tokens."""
    wanted = question + caption + 4  # an answer, and a merge where the caption ends
    if 0 < model.max_length < wanted:
        raise VlfilterError(
            f"the server takes {model.max_length} tokens, but a question with a long caption has {wanted}: start it "
            f"with --max-model-len {wanted}, or lower the option caption_max_tokens."
        )


async def check_reading(
    channel: ImageChannel, asked: Sequence[tuple[str, Sequence[int]]], image_tokens: int, tree: NumberTree
) -> None:
    """Asks some (text, token ids). Raises `VlfilterError` for a server that reads or answers them otherwise."""
    for prompt, ids in asked:
        try:
            answer = await channel.chat(
                prompt,
                1,
                allowed_token_ids=[tree.alphabet[0]],
                logprob_token_ids=list(tree.alphabet),
                return_token_ids=True,
            )
            _check_ids(answer.get("prompt_token_ids") or [], ids, image_tokens)
            found = positions(answer)[0]
        except RefusedError as error:
            raise VlfilterError(f"the server does not fit MLM-Filter: {error}. {ADVICE}") from None
        # only the first letter was allowed: a server that forbids before it tells gives the others no probability
        if found.logs.get(tree.alphabet[-1], IMPOSSIBLE) < IMPOSSIBLE / 2:
            raise VlfilterError(f"the server does not tell the number tokens' own log-probabilities. {ADVICE}")


def check_count(answer: dict[str, Any], length: int) -> None:
    """Raises `RefusedError` unless the server counted `length` tokens in the question."""
    counted = (answer.get("usage") or {}).get("prompt_tokens")
    if counted != length:
        raise RefusedError(f"the server read {counted} tokens where {length} were meant")


def _check_ids(read: Sequence[int], ids: Sequence[int], image_tokens: int) -> None:
    place = list(ids).index(IMAGE)
    image = read[place] if place < len(read) else None
    meant = [*ids[:place], *([image] * image_tokens), *ids[place + 1 :]]
    if list(read) != meant:
        same = next((i for i, pair in enumerate(zip(read, meant, strict=False)) if pair[0] != pair[1]), len(read))
        raise RefusedError(
            f"it reads a question as {len(read)} tokens where {len(meant)} are meant; the first {same} are the same"
        )
