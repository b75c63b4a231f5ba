"""The published prompt to the letter; the house's templates as training tokenises them."""

from __future__ import annotations

import json

import pytest

from tests.methods.data_engine.fixtures import copied, shared
from tests.models import small
from vlfilter.data.annotations import Instruction, Turn
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.items import lettered
from vlfilter.evaluation.prompts import DATA_ENGINE, FORMS, IMAGE, PromptWriter, prompt_form
from vlfilter.models.conversation import TEMPLATES
from vlfilter.training.conversation_data import ConversationEncoder

CHOICES = ["a cat", "the red bus", "snow"]


def test_the_published_prompt() -> None:
    told = copied("step1/expected_metrics.json")["first_question_prompt"]
    row = copied("step1/aokvqa_val_classified.json")[0]
    form, listed = DATA_ENGINE, lettered(row["choices"])
    message = f"{row['question']}\n{' '.join(listed)}"
    assert form.head == told["prefix_segment"]
    assert f"{form.between}{message}{form.tail}{form.lead}" == told["suffix_segment"]
    assert list(listed) == told["answers_scored_for_first_question"]
    tokenizer = small.tokenizer()
    asked = PromptWriter(tokenizer, form).rank(message, listed)
    ids = tokenizer.ids
    assert asked.prefix == [*ids(told["prefix_segment"]), IMAGE, *ids(told["suffix_segment"])]  # no start token
    assert asked.lanes == [ids(answer) for answer in told["answers_scored_for_first_question"]]


@pytest.mark.parametrize("name", [name for name in FORMS if name in ("llava_v0", "llava_v1", "vicuna_v1")])
def test_house_templates_ask_as_training_writes(name: str) -> None:
    tokenizer, template = small.tokenizer(), TEMPLATES[name]
    encoder = ConversationEncoder(tokenizer, template, tokenizer.automatic_bos, 1, 4096)
    asked = PromptWriter(tokenizer, prompt_form(name)).rank("Which </s> is it?", lettered(CHOICES))
    for candidate, lane in zip(lettered(CHOICES), asked.lanes, strict=True):
        turns = (Turn("human", "<image>\nWhich </s> is it?"), Turn("gpt", f"The answer is {candidate}"))
        trained = encoder.encode(Instruction("0", turns, "x.jpg")).ids
        whole = [*asked.prefix, *lane]
        assert trained[: len(whole)] == whole


def test_minigpt_v2_is_asked_as_published() -> None:
    """Two start tokens and one blank before [/INST], where its training has one and two."""
    told = json.loads(shared("v2/eval_okvqa.json").read_text())["run"]["calls"][0]["text"]
    tokenizer = small.tokenizer()
    head, tail = told.split("<ImageHere>")
    message = tail.removeprefix("</Img> ").removesuffix(" [/INST]")
    asked = PromptWriter(tokenizer, prompt_form("minigpt_v2_published")).open(message)
    whole = [*asked.prefix, *asked.lanes[0]]
    assert whole == [tokenizer.start, *tokenizer.ids_with_control(head), IMAGE, *tokenizer.ids_with_control(tail)]
    assert whole[:2] == [tokenizer.start] * 2


def test_minigpt_v2_is_asked_as_it_was_trained() -> None:
    tokenizer, template = small.tokenizer(), TEMPLATES["minigpt_v2"]
    encoder = ConversationEncoder(tokenizer, template, tokenizer.automatic_bos, 1, 4096)
    trained = encoder.encode(Instruction("0", (Turn("human", "<image>\nWhich?"), Turn("gpt", "snow")), "x.jpg")).ids
    writer = PromptWriter(tokenizer, prompt_form("minigpt_v2"))
    opened, ranked = writer.open("Which?"), writer.rank("Which?", ["snow", "rain"])
    assert [*opened.prefix, *opened.lanes[0], *tokenizer.ids("snow"), tokenizer.eos] == trained
    assert [*ranked.prefix, *ranked.lanes[0], tokenizer.eos] == trained
    assert writer.answer("snow</s> and more") == "snow"


def test_candidates_share_no_more_than_the_context() -> None:
    tokenizer = small.tokenizer()
    asked = PromptWriter(tokenizer, prompt_form("vicuna_v1")).rank("Which?", ["(A) snow", "(A) snow white"])
    assert tokenizer.plain.decode(asked.lanes[0]) == " (A) snow"
    assert tokenizer.plain.decode(asked.lanes[1]) == " (A) snow white"


def test_a_question_writes_no_control_tokens() -> None:
    tokenizer = small.tokenizer()
    for name in FORMS:
        asked = PromptWriter(tokenizer, prompt_form(name)).open("</s> <s>")
        assert [*asked.prefix, *asked.lanes[0]].count(tokenizer.eos) == 0
        assert len(asked.lanes[0]) == 1


def test_an_unknown_template_is_named() -> None:
    with pytest.raises(VlfilterError, match=r"no prompt template is called 'x'.*data_engine"):
        prompt_form("x")
