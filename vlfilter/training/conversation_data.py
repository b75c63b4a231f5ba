"""Instruction rows → token ids and labels, by a conversation template (LLaVA's `preprocess_*` functions).

Differences from the published code, all on purpose: only the template writes control tokens, never the data; a row
whose labels cannot be told is a reason, not a silently masked sample; lengths count the image's positions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from vlfilter.data.annotations import Instruction
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import IMAGE_PLACEHOLDER, Stretch, Template
from vlfilter.models.tokenizer import TextTokenizer

IMAGE = -200  # the placeholder's id, as in vlfilter.models.vlm (not imported: that brings torch)
IGNORED = -100  # the label of a position that is not learnt, as torch's cross entropy skips it
_TEMPLATE, _HUMAN, _LEARNT = range(3)


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sample. `ids` with `IMAGE` where the image stands; `labels` as long, `IGNORED` where nothing is learnt.

    `length` counts positions, the image's own among them.
    """

    ids: list[int]
    labels: list[int]
    length: int


@dataclass(frozen=True)
class ConversationEncoder:
    """Writes samples for one tokenizer. `bos` is a token id or None; `image_tokens` are the positions of one image.

    Sequences beyond `max_length` positions are cut at their end, as published.
    """

    tokenizer: TextTokenizer
    template: Template
    bos: int | None
    image_tokens: int
    max_length: int

    def __post_init__(self) -> None:
        end = self.template.assistant_end
        if end.startswith("<") and end not in self._control:
            raise VlfilterError(
                f"template {self.template.name!r} ends an answer with {end}, which is no control token of this "
                "tokenizer: the model would not learn to stop. Choose the template that belongs to the model."
            )

    @cached_property
    def _control(self) -> dict[str, int]:
        added = self.tokenizer.control.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    @cached_property
    def _split(self) -> re.Pattern[str]:
        longest_first = sorted([*self._control, IMAGE_PLACEHOLDER], key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def encode(self, row: Instruction) -> Tokens:
        """The sample of a row. Raises `ValueError` saying why it cannot be one."""
        ids, labels = ([], []) if self.bos is None else ([self.bos], [IGNORED])
        text, roles = "", b""
        for stretch in self._stretches(row):
            if stretch.apart:
                self._flush(text, roles, ids, labels)
                text, roles = "", b""
            if stretch.data:
                text += stretch.text
                roles += bytes([_LEARNT if stretch.learnt else _HUMAN]) * len(stretch.text)
                continue
            for piece in self._split.split(stretch.text):
                if piece != IMAGE_PLACEHOLDER and piece not in self._control:
                    text += piece
                    roles += bytes([_LEARNT if stretch.learnt else _TEMPLATE]) * len(piece)
                    continue
                self._flush(text, roles, ids, labels)
                text, roles = "", b""
                ids.append(IMAGE if piece == IMAGE_PLACEHOLDER else self._control[piece])
                labels.append(ids[-1] if stretch.learnt else IGNORED)
        self._flush(text, roles, ids, labels)
        return self._cut(ids, labels)

    def measure(self, row: Instruction) -> tuple[int, int]:
        """A row's positions and how many of them are learnt. Raises `ValueError` saying why it cannot be a sample."""
        tokens = self.encode(row)
        return tokens.length, sum(label >= 0 for label in tokens.labels[1:])

    def _stretches(self, row: Instruction) -> list[Stretch]:
        """The row in its template, with `<image>` moved to the front of its question.

        `plain` (projector pre-training) keeps nothing of the question but the image.
        """
        pairs = row.pairs
        if row.image is None:
            if self.template.name == "plain":
                raise ValueError("template plain is for rows with an image")
            return self.template.turns(pairs)
        holders = [i for i, (question, _) in enumerate(pairs) if IMAGE_PLACEHOLDER in question]
        if len(holders) != 1:
            raise ValueError(f"it has one image but {len(holders)} questions with {IMAGE_PLACEHOLDER}")
        asked, answer = pairs[holders[0]]
        asked = asked.replace(IMAGE_PLACEHOLDER, "").strip()
        if self.template.name == "plain":
            asked = ""
        pairs[holders[0]] = (asked, answer)
        return self.template.turns(pairs, image=holders[0])

    def _flush(self, text: str, roles: bytes, ids: list[int], labels: list[int]) -> None:
        """Tokenise a run of text between control tokens, whole, so that tokens may cross from template to data."""
        if not text:
            return
        encoding = self.tokenizer.plain.encode(text, add_special_tokens=False)
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            # Some tokenizers give a lone blank no characters: it is the one before.
            covered = roles[start:end] or roles[max(start - 1, 0) : max(start, 1)]
            ids.append(token)
            labels.append(token if _LEARNT in covered and _HUMAN not in covered else IGNORED)

    def _cut(self, ids: list[int], labels: list[int]) -> Tokens:
        images = ids.count(IMAGE)
        room = self.max_length - images * (self.image_tokens - 1)
        if images and ids.index(IMAGE) >= room:
            raise ValueError(f"the image does not fit into {self.max_length} positions")
        cut = len(ids) > room
        ids, labels = ids[:room], labels[:room]
        # the first position follows nothing, so nothing can be learnt there
        if all(label == IGNORED for label in labels[1:]):
            raise ValueError(
                f"its answers lie beyond {self.max_length} positions" if cut else "it has nothing to learn"
            )
        return Tokens(ids, labels, len(ids) + images * (self.image_tokens - 1))
