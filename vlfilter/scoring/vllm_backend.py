"""MLM-Filter's answers from a running vLLM server instead of a model in this process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from vlfilter.data.samples import ImageText, SampleError, Status
from vlfilter.models.conversation import IMAGE_PLACEHOLDER
from vlfilter.models.preprocess import ImageSettings, to_pixels
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.mlm_filter_columns import expected_columns, greedy_columns
from vlfilter.scoring.mlm_filter_text import IMAGE, Asker
from vlfilter.scoring.numbers import NUMBERS, NumberTree
from vlfilter.scoring.vllm_check import check_count, check_length, check_reading, check_tree
from vlfilter.scoring.vllm_client import RefusedError, VllmClient
from vlfilter.scoring.vllm_requests import ImageChannel, Position, positions, read_tree

ANSWER_TOKENS = 3  # "100" of a tokenizer that writes digit by digit
SAMPLE_COST = 128  # tokens: the server has the memory, so a batch only bounds the images that wait here
Read = TypeVar("Read")
Answers = list[list[Read | SampleError]]  # by sample and metric
CACHED = "vlfilter-"  # what the names of our images begin with in the server's cache


@dataclass(frozen=True, slots=True)
class Request:
    """One sample: a question a metric as exact text, the length in tokens that the server must count, and the image."""

    prompts: tuple[str, ...]
    lengths: tuple[int, ...]
    url: str
    uuid: str
    truncated: bool


class VllmBackend:
    """Asks the questions that an `Asker` writes of a server that serves the same checkpoint (`vlfilter models
    export-hf`). Images go there as PNGs of the very pixels that the tower takes, so that the server resizes nothing.

    The image and the caption stand before the questions, so the server's prefix cache computes them once a sample.
    The constructor asks the server a few questions; it raises `VlfilterError` when that does not answer, does not serve
    one of `names`, or reads and answers otherwise than the model would here.
    """

    def __init__(self, client: VllmClient, asker: Asker, images: ImageSettings, names: Sequence[str]):
        self.asker = asker
        self.images = images
        self._client = client
        self._tree = NumberTree.of(asker.tokenizer)
        self._model = client.served(names)
        check_tree(self._tree)
        longest = max(len(ids) for ids in self._ids("")) + asker.image_tokens - 1
        check_length(self._model, longest, asker.caption_tokens)
        _run(self._check())

    def prepare(self, content: ImageText) -> Prepared:
        """Raises `SampleError` for a caption with control tokens: the server would obey what we take for words."""
        caption = content.caption.replace(IMAGE_PLACEHOLDER, "image")
        shown = self.asker.shown(caption)
        ids = self._ids(shown)
        request = self._request(shown, ids, to_pixels(content.image, self.images), shown != caption)
        if IMAGE_PLACEHOLDER in shown or self._server_ids(request.prompts[0]) != ids[0]:
            raise SampleError(
                Status.UNSUPPORTED,
                "the caption holds a control token of the model, which a server obeys (backend transformers does not)",
            )
        return Prepared(SAMPLE_COST, request)

    def score(self, requests: Sequence[Request], answer: str) -> dict[str, Sequence[Any]]:
        """The columns of MLM-Filter; `answer` is `expected` or `greedy`."""
        metrics = self.asker.metrics
        read: Answers[Any] = self.expected(requests) if answer == "expected" else self.greedy(requests, ANSWER_TOKENS)
        blank: Any = (
            np.full(len(NUMBERS), 1 / len(NUMBERS)) if answer == "expected" else ""
        )  # an error replaces its columns
        filled: list[list[Any]] = [
            [blank if isinstance(value, SampleError) else value for value in row] for row in read
        ]
        built = (
            expected_columns(metrics, np.array(filled))
            if answer == "expected"
            else greedy_columns(metrics, filled, original=False)
        )
        columns = {name: list(values) for name, values in built.items()}
        for i, row in enumerate(read):
            for metric, value in zip(metrics, row, strict=True):
                if isinstance(value, SampleError):
                    for part, shown in (("score", value), ("answer", None), ("entropy", None)):
                        columns[f"{metric}_{part}"][i] = shown
        return {**columns, "truncated": [request.truncated for request in requests]}

    def expected(self, requests: Sequence[Request]) -> Answers[np.ndarray]:
        """For each request and metric the probabilities (101,) of the numbers, or why there are none."""

        async def ask(channel: ImageChannel, prompt: str, length: int) -> np.ndarray:
            async def after(text: str, allowed: Sequence[int], tokens: int) -> list[Position]:
                answer = await channel.chat(
                    prompt + text, tokens, allowed_token_ids=list(allowed), logprob_token_ids=list(self._tree.alphabet)
                )
                check_count(answer, length + bool(text))
                return positions(answer)

            return self._tree.distribution(await read_tree(after, self._tree, self._written))

        return _run(self._all(requests, ask))

    def greedy(self, requests: Sequence[Request], length: int) -> Answers[str]:
        """For each request and metric the text of the `length` likeliest tokens, or why there is none."""
        tokenizer = self.asker.tokenizer

        async def ask(channel: ImageChannel, prompt: str, count: int) -> str:
            answer = await channel.chat(prompt, length)
            check_count(answer, count)
            tokens = [position.token for position in positions(answer)]
            return str(tokenizer.hf.decode(tokens, skip_special_tokens=True))

        return _run(self._all(requests, ask))

    async def _all(
        self, requests: Sequence[Request], ask: Callable[[ImageChannel, str, int], Coroutine[Any, Any, Read]]
    ) -> Answers[Read]:
        async with self._client.session() as session:

            async def metric(channel: ImageChannel, prompt: str, length: int) -> Read | SampleError:
                try:
                    return await ask(channel, prompt, length)
                except RefusedError as error:
                    return SampleError(Status.FAILED, f"the server did not answer: {error}")

            async def sample(request: Request) -> list[Read | SampleError]:
                channel = ImageChannel(session, self._model.name, request.url, request.uuid)
                pairs = list(zip(request.prompts, request.lengths, strict=True))
                # the first alone: it brings the image, and leaves the common beginning in the prefix cache
                first = await metric(channel, *pairs[0])
                return [first, *await asyncio.gather(*(metric(channel, *pair) for pair in pairs[1:]))]

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(sample(request)) for request in requests]
            except ExceptionGroup as errors:  # one is enough, and the others are cancelled
                raise errors.exceptions[0] from None
            return [task.result() for task in tasks]

    def _request(self, shown: str, ids: Sequence[Sequence[int]], pixels: np.ndarray, truncated: bool) -> Request:
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG", compress_level=1)
        png = data.getvalue()
        lengths = tuple(len(question) + self.asker.image_tokens - 1 for question in ids)
        url = "data:image/png;base64," + base64.b64encode(png).decode()
        return Request(self._prompts(shown), lengths, url, CACHED + hashlib.sha256(png).hexdigest(), truncated)

    def _prompts(self, shown: str) -> tuple[str, ...]:
        """The exact texts, with the begin token and the blank that the asker writes as ids."""
        start = "" if self.asker.bos is None else str(self.asker.tokenizer.hf.bos_token)
        blank = "" if self.asker.space is None else " "
        return tuple(f"{start}{self.asker.prompt(metric, shown)}{blank}" for metric in self.asker.metrics)

    def _ids(self, shown: str) -> list[list[int]]:
        questions = self.asker.ask(shown)
        return [questions.prefix + lane for lane in questions.lanes]

    def _server_ids(self, prompt: str) -> list[int]:
        """What a server makes of a text: whatever looks like a control token is one."""
        head, tail = prompt.split(IMAGE_PLACEHOLDER, 1)
        tokenizer = self.asker.tokenizer
        return [*tokenizer.ids_with_control(head), IMAGE, *tokenizer.ids_with_control(tail)]

    def _written(self, tokens: Sequence[int]) -> str:
        return str(self.asker.tokenizer.hf.decode(list(tokens))).strip()

    async def _check(self) -> None:
        """Ask about one made-up sample in all ways that will be used."""
        caption = "a photo of a cat"
        grey = np.full((self.images.height, self.images.width, 3), 128, dtype=np.uint8)
        ids = self._ids(caption)
        request = self._request(caption, ids, grey, False)
        asked = list(zip(request.prompts, ids, strict=True))
        for node in self._tree.nodes:
            if len(node) > 1:
                asked.append((asked[0][0] + self._written(node[:-1]), [*ids[0], *node[:-1]]))
        async with self._client.session() as session:
            channel = ImageChannel(session, self._model.name, request.url, request.uuid)
            await check_reading(channel, asked, self.asker.image_tokens, self._tree)


def _run(work: Coroutine[Any, Any, Read]) -> Read:
    """In a thread of its own, because the caller's may run an event loop already."""
    with ThreadPoolExecutor(1, thread_name_prefix="vllm") as pool:
        return pool.submit(asyncio.run, work).result()
