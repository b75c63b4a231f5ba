"""Free answers in batches are those of each question alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.evaluation.small_model import question, save_images, save_model
from tests.models import small
from vlfilter.evaluation.direct import Writing
from vlfilter.evaluation.items import item_image
from vlfilter.evaluation.model import EvaluatedModel, ModelSettings, Posed
from vlfilter.evaluation.prompts import DATA_ENGINE, MINIGPT_V2, PromptWriter, prompt_form
from vlfilter.scoring.base import Prepared


@pytest.mark.parametrize("body", ["qwen2", "llama"])
@torch.inference_mode()
def test_a_batch_writes_what_each_question_gives_alone(tmp_path: Path, body: str) -> None:
    save_model(tmp_path / "model", body)
    images = save_images(tmp_path / "images", 5)
    answerer = Writing(EvaluatedModel(ModelSettings(str(tmp_path / "model"), "data_engine", device="cpu")), 6)
    answerer.load()
    items = [replace(question(i), candidates=()) for i in range(5)]
    samples: list[Prepared] = [answerer.prepare(item, item_image(item, images)) for item in items]
    found = answerer.score(samples)
    loaded = answerer.model.loaded
    for i, sample in enumerate(samples):
        posed: Posed = sample.payload
        _, vectors = answerer.model.inputs([posed])
        ids = [*posed.asked.prefix, *posed.asked.lanes[0]]
        written: list[int] = []
        while len(written) < 6 and loaded.tokenizer.eos not in written:
            written.append(int(loaded.model([torch.tensor([*ids, *written])], vectors)[0].argmax()))
        text = loaded.tokenizer.hf.decode(written, skip_special_tokens=True)
        assert found["written"][i] == text
        assert found["answer"][i] == answerer.model.writer.answer(text)


def test_an_answer_ends_where_its_template_ends_it() -> None:
    published = PromptWriter(small.tokenizer(), DATA_ENGINE)
    assert published.answer(" a cat.###Human: and") == "a cat"
    assert published.answer("St. Louis.") == "St. Louis"
    assert published.answer("") == ""
    house = PromptWriter(small.tokenizer(), prompt_form("vicuna_v1"))
    assert house.answer(" cat</s> dog") == "cat"


@torch.inference_mode()
def test_unled_answers_begin_as_the_model_likes_and_stay_as_they_are(tmp_path: Path) -> None:
    save_model(tmp_path / "model", "llama")
    images = save_images(tmp_path / "images", 1)
    model = EvaluatedModel(ModelSettings(str(tmp_path / "model"), "vicuna_v1", device="cpu"))
    answerer = Writing(model, 5, led=False)
    answerer.load()
    tokenizer = model.loaded.tokenizer
    posed: Posed = answerer.prepare(question(0), item_image(question(0), images)).payload
    ids = [*posed.asked.prefix, *posed.asked.lanes[0]]
    assert tokenizer.plain.decode(ids[-4:], skip_special_tokens=False).endswith("ANT:")
    unknown = 0  # the small tokenizer's special token that is neither beginning nor end
    word = tokenizer.ids("cat.")
    assert tokenizer.bos is not None
    written = answerer._decode([tokenizer.bos, unknown, *word, tokenizer.eos, *word])
    assert written == tokenizer.hf.decode([unknown, *word])
    assert answerer.fingerprint() != Writing(model, 5).fingerprint()


def test_an_unled_answer_keeps_its_full_stop() -> None:
    form = MINIGPT_V2.unled()
    writer = PromptWriter(small.tokenizer(), form)
    assert form == MINIGPT_V2
    assert writer.until_end(" true.</s> false") == "true."
    assert writer.until_end("[INST] Which? [/INST] a cat ") == "a cat"
    assert (DATA_ENGINE.unled().lead, DATA_ENGINE.unled().tail) == ("", "\n###Assistant:")
    house = prompt_form("vicuna_v1").unled()
    assert (house.tail[-10:], house.lead, house.gap) == ("ASSISTANT:", "", " ")
