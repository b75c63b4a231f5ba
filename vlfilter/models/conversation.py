"""Conversation templates: how turns become the text that a published checkpoint was trained on.

Sources: LLaVA's `conversation.py` and LLaVA-Unified's, whose Qwen template is not Qwen's stock one (no line break after
`<|im_end|>`, no full stop in the system message); MiniGPT-v2's training code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlfilter.errors import VlfilterError

IMAGE_PLACEHOLDER = "<image>"
_CURIOUS = (
    "A chat between a curious {who} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {who}'s questions."
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a training sample: from the `data` or written by the template, `learnt` or not; `apart`: no token
    begins before it."""

    text: str
    data: bool = False
    learnt: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """`system`, then for each exchange `user` before and `user_end` after the human's text, `assistant` before and
    `assistant_end` after the model's. Training learns the model's text and `assistant_end`, nothing else.

    `answer_gap` stands before the answer's text in training (LLaVA writes `ASSISTANT: 85`) and is learnt with it: a
    prompt ends before the gap, so the model itself writes it.

    `image_start` and `image_end` stand around an image, before its question; `later` before every human's text but the
    first. `text_user_end` is `user_end` of a conversation without an image. `answers_apart`: question and answer are
    tokenised each for itself, which Llama's tokenizer tells in a blank before the answer.
    """

    name: str
    system: str
    user: str
    user_end: str
    assistant: str
    assistant_end: str
    answer_gap: str = ""
    image_start: str = ""
    image_end: str = "\n"
    later: str = ""
    text_user_end: str | None = None
    answers_apart: bool = False

    def prompt(self, message: str) -> str:
        """One question, up to where the model answers."""
        return f"{self.system}{self.user}{message}{self.user_end}{self.assistant}"

    def turns(self, pairs: Sequence[tuple[str, str]], image: int | None = None) -> list[Stretch]:
        """(question, answer) pairs as stretches of text; joined they are the training sample.

        `<image>` stands before question number `image`; a blank or line break behind it only where a question follows.
        """
        stretches: list[Stretch] = []
        alone = image is None and self.text_user_end is not None
        user_end = self.text_user_end if alone else self.user_end
        for i, (question, answer) in enumerate(pairs):
            after = self.image_end if question else self.image_end.rstrip()
            stretches += [
                Stretch(f"{self.later if i else self.system}{self.user}"),
                Stretch(f"{self.image_start}{IMAGE_PLACEHOLDER}{after}" if i == image else ""),
                Stretch(question, data=True),
                Stretch(f"{user_end}{self.assistant}"),
                Stretch(self.answer_gap, learnt=True, apart=self.answers_apart),
                Stretch(answer, data=True, learnt=True, apart=self.answers_apart),
                Stretch(self.assistant_end, learnt=True),
            ]
        return [stretch for stretch in stretches if stretch.text]


TEMPLATES = {
    template.name: template
    for template in (
        # the separator after the system message stands before the first question only
        Template("llava_v0", _CURIOUS.format(who="human") + "###", "Human: ", "", "###Assistant:", "###", " "),
        Template("llava_v1", _CURIOUS.format(who="human") + " ", "USER: ", "", " ASSISTANT:", "</s>", " "),
        Template("vicuna_v1", _CURIOUS.format(who="user") + " ", "USER: ", "", " ASSISTANT:", "</s>", " "),
        Template("llama_3", _CURIOUS.format(who="user") + " ", "USER: ", "", " ASSISTANT:", "<|end_of_text|>", " "),
        Template(
            "qwen_instruct",
            "<|im_start|>system\nYou are a helpful assistant<|im_end|>",
            "<|im_start|>user\n",
            "<|im_end|>",
            "<|im_start|>assistant\n",
            "<|im_end|>",
        ),
        # the blank before [/INST] is a second one where there is an image: MiniGPT-v2's data sets bring it along
        Template(
            "minigpt_v2", "", "[INST] ", "  ", "[/INST]", "</s>", image_start="<Img>", image_end="</Img> ",
            later="<s>", text_user_end=" ", answers_apart=True,
        ),
        # projector pre-training: the image, then its caption and a line break
        Template("plain", "", "", "", "", "\n"),
    )
}  # fmt: skip
TRAINED_WITH = {"llama": "vicuna_v1", "qwen2": "qwen_instruct", "qwen3": "qwen_instruct"}


def template(name: str) -> Template:
    """A template by name. Raises `VlfilterError` for an unknown one."""
    if name not in TEMPLATES:
        raise VlfilterError(f"no conversation template is called {name!r}. There are: {', '.join(TEMPLATES)}.")
    return TEMPLATES[name]


def trained_template(body: str, vocab_size: int) -> Template:
    """The template that a published model with that body was trained on; Llama 3 is told by its larger vocabulary."""
    if body == "llama" and vocab_size > 100_000:
        return TEMPLATES["llama_3"]
    return TEMPLATES[TRAINED_WITH.get(body, "vicuna_v1")]


def original_template(model: str, version: int) -> Template:
    """The template that the published scripts (`version` 1 or 2) choose by the model's name.

    The name is the path's last part, or `parent_checkpoint-N`. v1 gives `llava_v0` to the released 13B, which was
    trained on `vicuna_v1`.
    """
    name = model_name(model).lower()
    choices = [("v1", "llava_v1")]
    if version == 2:
        choices += [("llama-3", "llama_3"), ("qwen", "qwen_instruct")]
    if "llama-2" in name or (version == 1 and "mpt" in name and "v1" not in name):
        raise VlfilterError(f"{model}: its name asks for a template of Llama 2 or MPT, which no released model uses.")
    return TEMPLATES[next((chosen for part, chosen in choices if part in name), "llava_v0")]


def model_name(path: str) -> str:
    """The name that the published code gives a model: `runs/foo/checkpoint-100` is `foo_checkpoint-100`."""
    parts = path.strip("/").split("/")
    return "_".join(parts[-2:]) if parts[-1].startswith("checkpoint-") and len(parts) > 1 else parts[-1]
