"""How a question and its candidates become tokens: the data engine's published form, and the house's templates.

Source of the first two: MLLM-DataEngine's evaluations (opendatalab, Apache-2.0), whose prompts differ from their own
training: version 1 writes `<img>` in lower case and no start token, version 2 (MiniGPT-v2) a second start token and one
blank less. They stay so, for comparable numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from vlfilter.data.samples import SampleError, Status
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import TEMPLATES, Template
from vlfilter.models.tokenizer import TextTokenizer

IMAGE = -200  # the placeholder's id, as in vlfilter.models.vlm (not imported: that brings torch)
MAX_CANDIDATE = 512  # tokens; the published limit
PUBLISHED = "data_engine"


@dataclass(frozen=True, slots=True)
class PromptForm:
    """`head`, the image, `between`, the human's message, `tail`, then `lead`, with which every answer begins.

    `gap` stands between lead and answer, `end` behind an answer. `bos` tells whether the text begins with a start token
    if the tokenizer has one. `joined` forms tokenise lead and candidate together, as training does; the published one
    each alone.
    """

    name: str
    head: str
    between: str
    tail: str
    lead: str
    gap: str
    end: str
    bos: bool
    joined: bool

    def unled(self) -> PromptForm:
        """The same for answers that begin as the model likes: no blank stands behind the tail, but before a candidate
        where training has one."""
        tail = self.tail.rstrip(" ")
        return replace(self, lead="", gap=self.tail[len(tail) :], tail=tail)


DATA_ENGINE = PromptForm(
    PUBLISHED, "###Human: <img>", "</img> ", "\n###Assistant: ", "The answer is", "", "###", bos=False, joined=False
)
MINIGPT_V2 = PromptForm(
    "minigpt_v2_published", "<s>[INST] <Img>", "</Img> ", " [/INST]", "", "", "</s>", bos=True, joined=False
)
FORMS = (PUBLISHED, MINIGPT_V2.name, *(name for name in TEMPLATES if name != "plain"))


def house_form(template: Template, lead: str = "The answer is") -> PromptForm:
    """A conversation template as a form; an answer is put as its training would see it.

    One whose answers are tokenised apart has no lead: the prompt ends where the model begins.
    """
    apart = template.answers_apart
    return PromptForm(
        template.name,
        head=f"{template.system}{template.user}{template.image_start}",
        between=template.image_end,
        tail=f"{template.user_end}{template.assistant}{template.answer_gap}",
        lead="" if apart else lead,
        gap="" if apart else " ",
        end=template.assistant_end,
        bos=True,
        joined=not apart,
    )


def prompt_form(name: str) -> PromptForm:
    """A form by name. Raises `VlfilterError` for an unknown one."""
    for form in (DATA_ENGINE, MINIGPT_V2):
        if name == form.name:
            return form
    if name not in FORMS:
        raise VlfilterError(f"no prompt template is called {name!r}. There are: auto, {', '.join(FORMS)}.")
    return house_form(TEMPLATES[name])


@dataclass(frozen=True, slots=True)
class Asked:
    """Token ids: `prefix` (with `IMAGE`), and lanes that go on from it, none of them empty."""

    prefix: list[int]
    lanes: list[list[int]]


@dataclass(frozen=True)
class PromptWriter:
    """Writes a form's prompts for one tokenizer. Only the template may write control tokens, never a question."""

    tokenizer: TextTokenizer
    form: PromptForm

    def rank(self, message: str, candidates: Sequence[str]) -> Asked:
        """One lane a candidate: the tokens whose likelihood is asked. Raises `SampleError` for one without any."""
        context = self._after_image(message, self.form.lead)
        if self.form.joined:
            answers = [f"{self.form.lead}{self.form.gap}{candidate}" for candidate in candidates]
            whole = [self._after_image(message, answer) for answer in answers]
            shared = _shared([context, *whole])
            context, lanes = context[:shared], [ids[shared:][:MAX_CANDIDATE] for ids in whole]
        else:
            lanes = [self.tokenizer.ids(candidate)[:MAX_CANDIDATE] for candidate in candidates]
        for candidate, lane in zip(candidates, lanes, strict=True):
            if not lane:
                raise SampleError(Status.UNSUPPORTED, f"the candidate {candidate!r} has no tokens")
        return Asked([*self._start, *context], lanes)

    def open(self, message: str) -> Asked:
        """One lane, after which the model answers: the prompt's last token."""
        ids = [*self._start, *self._after_image(message, self.form.lead)]
        return Asked(ids[:-1], [ids[-1:]])

    def answer(self, text: str) -> str:
        """What a model has written, up to the form's end, without its final full stop."""
        return text.split(self.form.end, 1)[0].strip().removesuffix(".").rstrip()

    def until_end(self, text: str) -> str:
        """What a model has written, up to the form's end; of one that writes prompts itself the last answer."""
        return text.split(self.form.end, 1)[0].rpartition(self.form.tail.strip() or self.form.end)[2].strip()

    @cached_property
    def _start(self) -> list[int]:
        bos = self.tokenizer.automatic_bos if self.form.bos else None
        return [*([] if bos is None else [bos]), *self._ids([(self.form.head, True)]), IMAGE]

    def _after_image(self, message: str, answer: str) -> list[int]:
        form = self.form
        return self._ids([(form.between, True), (message, False), (form.tail, True), (answer, False)])

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        added = self.tokenizer.control.get_added_tokens_decoder().values()
        texts = sorted((token.content for token in added if token.special), key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, texts)) + ")") if texts else None

    def _ids(self, pieces: Sequence[tuple[str, bool]]) -> list[int]:
        """Ids of (text, written by the template) pieces. Between control tokens a run of text is tokenised whole, so
        that tokens may cross from template to question, as in training."""
        ids: list[int] = []
        run = ""
        for text, template in pieces:
            parts = self._control.split(text) if template and self._control else [text]
            for i, part in enumerate(parts):
                if i % 2 == 0:
                    run += part
                    continue
                ids += self.tokenizer.ids(run) if run else []
                ids += self.tokenizer.ids_with_control(part)
                run = ""
        return [*ids, *self.tokenizer.ids(run)] if run else ids


def _shared(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    first = sequences[0]
    most = min(map(len, sequences))
    return next((i for i in range(most) if any(ids[i] != first[i] for ids in sequences[1:])), most)
