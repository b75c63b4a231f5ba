"""Prompts, byte for byte where they were published."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.methods.data_engine.query_parts import row
from vlfilter.data.aokvqa import parse_row
from vlfilter.methods.data_engine.image_info import Box, ImageFacts
from vlfilter.methods.data_engine.prompt import example_text, prompt_v1, prompt_v2
from vlfilter.methods.data_engine.prompt_v1 import TEMPLATE
from vlfilter.methods.data_engine.question_types import definition_of

SHARED = Path(__file__).parents[3].parent / "shared" / "parity" / "data_engine" / "step2"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published prompts are not in this checkout")
SLOTS = re.compile(r"\{\w+\}")


def written(text: str) -> ImageFacts:
    """Facts whose boxes come out as the given lines."""
    found = re.findall(r"(.+) : \[(.+), (.+), (.+), (.+)\]", text)
    return ImageFacts(boxes=tuple(Box(name, *map(float, corners)) for name, *corners in found))


def test_the_templates_digest() -> None:
    plain = SLOTS.sub("{}", TEMPLATE)
    assert len(SLOTS.findall(TEMPLATE)) == 9
    assert plain.startswith("\nYou are an AI visual assistant")
    assert plain.endswith("I gave you.\n\n")
    assert len(plain) == 5940 - plain.count("’") * 2


@needs_shared
def test_template_files_and_digests() -> None:
    facts = json.loads((SHARED / "template_facts.json").read_text())
    plain = SLOTS.sub("{}", TEMPLATE)
    assert plain.encode() == (SHARED / "prompt_template_demo_dedented.txt").read_bytes()
    assert hashlib.sha256(plain.encode()).hexdigest() == facts["template_sha256_dedented"]
    for name, text in facts["explanations"].items():
        assert definition_of(name.replace(" ", "_").lower()) == text


@needs_shared
def test_published_demo_prompts() -> None:
    demo = {entry["image_id"]: entry for entry in json.loads((SHARED / "demo_gptvqa_prompt.json").read_text())}
    slots = json.loads((SHARED / "template_facts.json").read_text())["demo_slots"]
    assert len(slots) == len(demo) == 2
    for case in slots:
        _, captions, boxes, _, _, _, first, second, _ = case["slots"]
        facts = written(boxes)
        facts = ImageFacts(tuple(captions.split("\n")[:-1]), facts.boxes)
        rows = [
            parse_row({"question": "?", "choices": ["a"], "correct_choice_idx": 0, "prompt": t})
            for t in (first, second)
        ]
        assert prompt_v1(case["question_type"], facts, rows) == demo[case["image_id"]]["prompt"]


def test_an_example_without_a_prompt_is_built() -> None:
    assert example_text(row(6, "future_prediction")) == (
        "Question: What about 6?\nChoices: (A) a (B) b (C) c (D) d\n"
        "Answer: The answer is (C): c.\nQuestion type: future prediction"
    )


def test_braces_in_data_stay() -> None:
    facts = ImageFacts(("a sign that says {type}",))
    assert "a sign that says {type}\n" in prompt_v1("image_scene", facts, [row(0), row(1)])


def test_v2_sections_in_order() -> None:
    facts = ImageFacts(
        regions=(Box("Plane taking off in the sky.", 0.27, 0.37, 0.76, 0.67),),
        ocr=(Box("STOP", 0.13, 0.53, 0.29, 0.69),),
    )
    text = prompt_v2("text_understanding", facts, [row(i) for i in range(10)])
    places = [
        text.index(part)
        for part in (
            "Your task is to use the provided information, create diverse instructions with different language styles "
            "and accurate answers.",
            "Region Description", "[0.27, 0.37, 0.76, 0.67]: Plane taking off in the sky.\n",
            "OCR Result", "[0.13, 0.53, 0.29, 0.69]: STOP\n",
            "Question Type: Text understanding", "In-Context Examples", "Example 1:\n", "Example 10:\n",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "[0.0, 0.0, 1.0, 1.0]: a cat\n" in prompt_v2("image_scene", ImageFacts(("a cat",)), [row(1)])
