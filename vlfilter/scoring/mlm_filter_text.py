"""MLM-Filter's input: the four questions about one image and caption as one prefix and four lanes of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import IMAGE_PLACEHOLDER, Template
from vlfilter.models.tokenizer import TextTokenizer, encode_start
from vlfilter.scoring.mlm_filter_prompts import instruction

IMAGE = -200  # the placeholder's id, as in vlfilter.models.vlm (not imported: that brings torch)
ORIGINAL_MAX_IDS = 2040  # the published --max-len: it cuts the end of the prompt, the question itself
LEAST_CAPTION = 16  # tokens that must be left for a caption


@dataclass(frozen=True, slots=True)
class Questions:
    """Token ids: `prefix` (with `IMAGE`) and one lane a metric; `truncated` tells that the caption was cut, or by the
    original a question."""

    prefix: list[int]
    lanes: list[list[int]]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Asker:
    """Writes the questions for one tokenizer. `bos` and `space` (which the published scripts put before the answer) are
    token ids or None, `context` is the longest sequence, images expanded."""

    tokenizer: TextTokenizer
    template: Template
    version: int
    metrics: tuple[str, ...]
    bos: int | None
    space: int | None
    caption_tokens: int
    image_tokens: int
    context: int
    original: bool = False

    def ask(self, caption: str) -> Questions:
        """The questions about a caption. A caption beyond the limit is cut, never the question.

        The original cuts the finished prompt at its end instead. A literal `<image>` in a caption becomes the word.
        """
        caption = caption.replace(IMAGE_PLACEHOLDER, "image")
        shown = self.shown(caption)
        full = [self._ids(metric, shown) for metric in self.metrics]
        whole = [self._cut(ids) for ids in full] if self.original else full
        shared = _shared(whole)
        return Questions(whole[0][:shared], [ids[shared:] for ids in whole], shown != caption or whole != full)

    def shown(self, caption: str) -> str:
        """What the questions show of a caption."""
        return caption if self.original else cut_text(self.tokenizer, caption, self.caption_tokens)

    def prompt(self, metric: str, caption: str) -> str:
        """The text of one question, with `<image>` where the image stands."""
        image = f"{self.template.image_start}{IMAGE_PLACEHOLDER}{self.template.image_end}"
        return self.template.prompt(f"{image}{instruction(metric, caption, self.version)}")

    def _ids(self, metric: str, caption: str) -> list[int]:
        head, text = self.prompt(metric, caption).split(IMAGE_PLACEHOLDER, 1)
        start = [] if self.bos is None else [self.bos]
        ids = [*start, *self.tokenizer.ids_with_control(head), IMAGE]
        if self.original:
            return [*ids, *self.tokenizer.ids_with_control(text), *self._answer_start]
        # only the template may write control tokens, never a caption
        ending = f"{self.template.user_end}{self.template.assistant}"
        control = len(text) - len(ending) if ending.startswith("<|") else len(text)
        ids += self.tokenizer.ids(text[:control]) + self.tokenizer.ids_with_control(text[control:])
        return [*ids, *self._answer_start]

    @property
    def _answer_start(self) -> list[int]:
        return [] if self.space is None else [self.space]

    def _cut(self, ids: list[int]) -> list[int]:
        tail = len(self._answer_start)
        cut = [*ids[: len(ids) - tail][:ORIGINAL_MAX_IDS], *ids[len(ids) - tail :]]
        return cut[: self.context - (self.image_tokens - 1)]


def caption_room(asker: Asker, origin: str) -> int:
    """Tokens that the context leaves for a caption beside the longest question. Raises `VlfilterError` for too few."""
    empty = asker.ask("")
    longest = len(empty.prefix) + max(len(lane) for lane in empty.lanes) + asker.image_tokens - 1
    room = asker.context - longest - 4  # the answer's own tokens, and a merge where the caption ends
    if room < LEAST_CAPTION:
        raise VlfilterError(
            f"{origin}: a context of {asker.context} tokens leaves {max(room, 0)} for a caption beside the question "
            f"({longest} tokens, the image's {asker.image_tokens} among them): it does not fit MLM-Filter."
        )
    return room


def cut_text(tokenizer: TextTokenizer, text: str, limit: int) -> str:
    """The start of a text that its tokenizer writes with at most `limit` tokens."""
    if len(text.encode("utf-8", "replace")) <= limit:  # no token is shorter than a byte
        return text
    ids = encode_start(tokenizer.ids, text, limit)
    if len(ids) <= limit:
        return text
    # by halves: where a token ends in the text is not told alike by all tokenizers
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(encode_start(tokenizer.ids, text[:middle], limit)) <= limit:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _shared(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with; at least one is left for each."""
    most = min(len(ids) for ids in sequences) - 1
    first = sequences[0]
    return next((i for i in range(most) if any(ids[i] != first[i] for ids in sequences[1:])), most)
