"""The data engine's teacher and judges as a script: what stands behind the HTTP server in place of language models.

It types questions by their wording, writes questions from the captions in the prompt (which are true, and all that it
knows), gives a wrong answer in one of ten, and judges with the truth about each image. No model answers anything here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Callable
from typing import Any

from benchmarks.engine_world import BY_KEY, KINDS, World, make_row
from tests.llm.vendor import prompt_of
from vlfilter.demo.captions import BACKGROUNDS, COLOURS, Attributes, label_of
from vlfilter.methods.data_engine.question_types import QUESTION_TYPES, key_of

MISTAKES = 0.1  # share of the teacher's questions whose answer is wrong
_TYPED = {wording: kind.key for kind in KINDS for wording in kind.wordings}
_NAMED = {kind.key: kind for kind in QUESTION_TYPES}


def script(world: World) -> Callable[[Any], str]:
    """The reply to the body of a request, always the same one."""
    pictures = {
        hashlib.sha256(path.read_bytes()).digest(): world.seen[int(path.stem)]
        for path in (world.folder / "train2017").iterdir()
    }

    def answer(body: Any) -> str:
        prompt = prompt_of(body)
        if "text categorization" in prompt:
            return _types(prompt)
        if "high-quality" in prompt:
            return _question(prompt)
        if "you cannot see" in prompt:
            return json.dumps({"answer": "unknown"})
        return json.dumps({"answer": _judged(prompt, pictures[_picture(body)])})

    return answer


def attributes_of(caption: str) -> Attributes:
    """What a caption says of its scene."""
    ground = next(name for name, names in BACKGROUNDS.items() if any(said in caption for said in names))
    label = label_of(caption)
    assert label is not None
    return Attributes(label, next(tone for tone in COLOURS if tone in caption), ground)


def _types(prompt: str) -> str:
    asked = re.findall(r"^\s*(\d+)\. (.+)$", prompt.split("The questions to be classified:")[1], re.MULTILINE)
    found = [(number, _NAMED[_TYPED[text]]) for number, text in asked if text in _TYPED]
    return "\n".join(f"{number}. ({kind.number}) {kind.name}" for number, kind in found)


def _question(prompt: str) -> str:
    """A question in the published form."""
    wanted = re.search(r"The question type I require is (.+?) question", prompt)
    captions = prompt.rpartition("(1) Image description: \n")[2]
    assert wanted is not None
    kind, seen = BY_KEY[key_of(wanted[1])], attributes_of(captions.splitlines()[0])
    rng = random.Random(hashlib.sha256(prompt.encode()).digest())
    row = make_row(kind, seen, 0, "", rng)
    place = row.correct_choice_idx
    if rng.random() < MISTAKES:
        place = rng.choice([other for other in range(len(row.choices)) if other != place])
    listed = " ".join(f"({letter}) {choice}" for letter, choice in zip("ABCD", row.choices, strict=True))
    return (
        f"Question: {row.question}\nChoices: {listed}\nAnswer: The answer is ({'ABCD'[place]}): {row.choices[place]}.\n"
        "Explanations: By looking at the image, this can be seen."
    )


def _picture(body: Any) -> bytes:
    """A hash of the image's file in a request to OpenAI's API."""
    part = next(part for part in body["messages"][-1]["content"] if part["type"] == "image_url")
    return hashlib.sha256(base64.b64decode(part["image_url"]["url"].partition(",")[2])).digest()


def _judged(prompt: str, seen: Attributes) -> str:
    """The letter of the true answer."""
    asked = next(line.removeprefix("Question: ") for line in prompt.splitlines() if line.startswith("Question: "))
    choices = {choice: letter for letter, choice in re.findall(r"\(([A-D])\) (\w+)", prompt)}
    return choices.get(BY_KEY[_TYPED[asked]].answer(seen), "unknown")
