"""Likelihoods of many questions together are those of each alone; the answer is the likeliest candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.evaluation.small_model import question, save_images, save_model
from vlfilter.data.samples import SampleError, Status
from vlfilter.evaluation.choices import Choosing, best
from vlfilter.evaluation.items import Item, item_image
from vlfilter.evaluation.model import EvaluatedModel, ModelSettings, Posed
from vlfilter.evaluation.prompts import FORMS
from vlfilter.scoring.base import Prepared

COUNT = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("choices")
    save_model(root / "model")
    save_images(root / "images", COUNT)
    return root


def choosing(folder: Path, template: str) -> Choosing:
    answerer = Choosing(EvaluatedModel(ModelSettings(str(folder / "model"), template, device="cpu")))
    answerer.load()
    return answerer


def prepared(answerer: Choosing, folder: Path, items: list[Item]) -> list[Prepared]:
    return [answerer.prepare(item, item_image(item, str(folder / "images"))) for item in items]


@torch.inference_mode()
def one_by_one(answerer: Choosing, sample: Prepared) -> list[float]:
    """The published procedure: every candidate alone, the mean over its tokens."""
    posed: Posed = sample.payload[1]
    _, images = answerer.model.inputs([posed])
    model = answerer.model.loaded.model
    means = []
    for lane in posed.asked.lanes:
        ids = torch.tensor([*posed.asked.prefix, *lane])
        states = model.encode([ids], images).states[0]
        logs = model.vocabulary_logits(states[-len(lane) - 1 : -1]).log_softmax(-1)
        means.append(-float(logs.gather(1, torch.tensor(lane)[:, None]).mean()))
    return means


@pytest.mark.parametrize("template", FORMS)
def test_a_batch_gives_what_each_candidate_gives_alone(folder: Path, template: str) -> None:
    answerer = choosing(folder, template)
    samples = prepared(answerer, folder, [question(i) for i in range(COUNT)])
    found = answerer.score(samples)
    for i, sample in enumerate(samples):
        alone = one_by_one(answerer, sample)
        assert found["nll"][i] == pytest.approx(alone, abs=1e-5)
        assert found["choice"][i] == best(alone)
        assert found["answer"][i] == question(i).candidates[found["choice"][i]]
        assert found["tokens"][i] == [len(lane) for lane in sample.payload[1].asked.lanes]


@pytest.mark.parametrize("template", ["data_engine", "vicuna_v1"])
def test_permuted_candidates_have_permuted_likelihoods(folder: Path, template: str) -> None:
    answerer = choosing(folder, template)
    items = [question(i) for i in range(COUNT)]
    turned = [replace(item, candidates=item.candidates[::-1]) for item in items]
    found, back = (answerer.score(prepared(answerer, folder, some)) for some in (items, turned))
    for i in range(COUNT):
        assert back["nll"][i][::-1] == pytest.approx(found["nll"][i], abs=1e-5)
        assert back["answer"][i] == found["answer"][i]


def test_the_image_counts(folder: Path) -> None:
    answerer = choosing(folder, "data_engine")
    found = answerer.score(prepared(answerer, folder, [question(0), question(0, images=("000000000005.jpg",))]))
    assert found["nll"][0] != pytest.approx(found["nll"][1], abs=1e-3)


def test_equal_candidates_go_to_the_first(folder: Path) -> None:
    answerer = choosing(folder, "data_engine")
    same = question(1, candidates=("a cat", "a cat", "a cat"))
    found = answerer.score(prepared(answerer, folder, [same, question(2)]))
    assert found["choice"][0] == 0
    assert best([1.0, 0.5, 0.5, 0.7]) == 1
    assert best([1.0, 0.500003, 0.5, 0.7]) == 1
    assert best([1.0, 0.51, 0.5, 0.7]) == 2


def test_questions_that_cannot_be_asked(folder: Path) -> None:
    answerer = choosing(folder, "data_engine")
    image = item_image(question(0), str(folder / "images"))
    for item, status, reason in (
        (question(0, candidates=()), Status.MISSING_TEXT, "no choices"),
        (question(0, candidates=("(A) x", "")), Status.UNSUPPORTED, "has no tokens"),
        (question(0, message="word " * 600), Status.TOO_LARGE, "context is 512"),
    ):
        with pytest.raises(SampleError, match=reason) as raised:
            answerer.prepare(item, image)
        assert raised.value.status == status


def test_a_likelihood_that_is_no_number_is_a_reason(folder: Path) -> None:
    answerer = choosing(folder, "data_engine")
    samples = prepared(answerer, folder, [question(0), question(1)])
    loaded = answerer.model.loaded.model
    with torch.no_grad():
        loaded.lm_head.weight[:] = float("nan")
    found = answerer.score(samples)
    assert all(isinstance(value, SampleError) for value in found["nll"])


def test_whole_candidates_compare_the_likelihood_of_all_their_tokens(folder: Path) -> None:
    items = [question(i) for i in range(COUNT)]
    mean, whole = choosing(folder, "data_engine"), choosing(folder, "data_engine")
    whole.whole = True
    by_mean, by_sum = mean.score(prepared(mean, folder, items)), whole.score(prepared(whole, folder, items))
    sums = [[a * b for a, b in zip(*each, strict=True)] for each in zip(by_sum["nll"], by_sum["tokens"], strict=True)]
    assert list(by_sum["choice"]) == [best(each) for each in sums]
    assert by_mean["choice"] != by_sum["choice"]
    assert mean.fingerprint() != whole.fingerprint()


def test_unled_candidates_stand_where_training_has_answers(folder: Path) -> None:
    answerer = choosing(folder, "vicuna_v1")
    answerer.led = False
    posed: Posed = prepared(answerer, folder, [question(0, candidates=("A", "B"))])[0].payload[1]
    tokenizer = answerer.model.loaded.tokenizer.plain
    whole = [
        tokenizer.decode([*posed.asked.prefix[-3:], *lane], skip_special_tokens=False) for lane in posed.asked.lanes
    ]
    assert [text[-3:] for text in whole] == [": A", ": B"]
    assert "The answer" not in "".join(whole)
