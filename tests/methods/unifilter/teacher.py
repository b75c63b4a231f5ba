"""A teacher for tests: it answers what the prompt asks for, in words that depend on the images it was shown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

OBJECTS = ("boat", "bicycle", "teapot", "lantern", "violin", "cactus", "umbrella", "typewriter", "kettle", "anchor")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")
PLACES = ("beach", "kitchen", "meadow", "garage", "balcony", "station", "harbour", "library", "rooftop", "forest")
TIMES = ("at dawn", "in the rain", "at noon", "under a bridge", "by lamplight", "after the storm", "in winter")

Answer = dict[str, Any]


def images_of(body: Any) -> list[bytes]:
    """The image files of a request, of either vendor."""
    found = []
    for part in next(message["content"] for message in body["messages"] if isinstance(message["content"], list)):
        if part["type"] == "image":
            found.append(base64.b64decode(part["source"]["data"]))
        elif part["type"] == "image_url":
            found.append(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
    return found


def scene(seed: bytes) -> list[str]:
    """Words that say what an image shows, as far as this teacher can see."""
    state = hashlib.sha256(seed).digest()
    lists = (COLOURS, OBJECTS, PLACES, TIMES, COLOURS, OBJECTS)
    return [words[state[i] % len(words)] for i, words in enumerate(lists)]


def sentence(words: list[str]) -> str:
    colour, thing, place, time, other, beside = words
    return f"A {colour} {thing} stands in the {place} {time} beside a {other} {beside} that nobody uses"


def captions(images: list[bytes]) -> Answer:
    seed = images[0]
    right = scene(seed)
    wrong = scene(seed + b"wrong")
    one_wrong = ["pale", *right[1:]]
    two_wrong = ["pale", right[1], right[2], "on Mars", "glass", "giraffe"]
    return {f"level_{i}": sentence(w) for i, w in enumerate((wrong, two_wrong, one_wrong, right))}


def documents(images: list[bytes]) -> Answer:
    names = ("before", *(f"after_{i + 1}" for i in range(len(images))))
    answer: Answer = {}
    for level in range(4):
        parts = [
            f"{sentence(scene(images[0] + bytes([level, i])))}. It goes on for a while." for i in range(len(names))
        ]
        answer[f"level_{level}"] = dict(zip(names, (f"{p}\n\n{p[::-1]}" for p in parts), strict=True))
    return answer


def good_answer(body: Any) -> Answer:
    return captions(images_of(body)) if "four captions" in json.dumps(body["messages"]) else documents(images_of(body))


def teacher(change: Callable[[Any, Answer], Any] = lambda body, answer: answer) -> Callable[[Any], str]:
    """What a vendor server answers; `change` may spoil it (a text is sent as it is)."""

    def answer(body: Any) -> str:
        made = change(body, good_answer(body))
        return made if isinstance(made, str) else json.dumps(made)

    return answer


def target_words(prompt: str) -> int:
    found = re.search(r"about (\d+) words", prompt)
    assert found
    return int(found[1])
