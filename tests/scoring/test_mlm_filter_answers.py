"""MLM-Filter's two readings of an answer, whatever way numbers are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import picture
from tests.scoring.mlm_models import FIXTURE, answering, llama_2_tokenizer, llama_3_tokenizer, make, one, pairs, save
from vlfilter.data.samples import ImageText, SampleError, Status
from vlfilter.models.preprocess import normalise
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import METRICS
from vlfilter.scoring.numbers import NUMBERS

ITM, ODF, CTQ, SU = METRICS
SPACE = "Ġ"  # how the fixture's tokenizer writes a blank
HUNDRED = {SPACE: "1", "1": "0", "0": "0"}


@pytest.fixture(scope="module")
def llama_3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("llama") / "mlm-filter-llama-3-tiny", llama_3_tokenizer())


@pytest.fixture(scope="module")
def llama_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("vicuna") / "mlm-filter-llava-tiny", llama_2_tokenizer())


def by_brute_force(scorer: MlmFilter, sample: ImageText, metric: str) -> np.ndarray:
    """101 plain runs: each number's tokens after the whole question; a number that others go on from must end."""
    item = scorer.prepare(sample).payload
    question = [*item.questions.prefix, *item.questions.lanes[scorer.metrics.index(metric)]]
    image = normalise(torch.from_numpy(item.pixels.copy())[None], scorer.loaded.images)
    tokenizer, model = scorer.loaded.tokenizer, scorer.loaded.model
    written = [tokenizer.ids(f" {n}" if tokenizer.ids(" 1")[0] == tokenizer.ids(" ")[-1] else str(n)) for n in NUMBERS]
    tokens = [[t for t in ids if t not in (tokenizer.ids(" ")[-1], tokenizer.ids("▁")[0])] for ids in written]
    weights = []
    with torch.inference_mode():
        for path in tokens:
            weight = 1.0
            for k in range(len(path)):
                after = model([torch.tensor(question + path[:k])], [image])[0].double().softmax(-1)
                weight *= float(after[path[k]])
            going_on = {other[len(path)] for other in tokens if other[: len(path)] == path and other != path}
            if going_on:
                after = model([torch.tensor(question + path)], [image])[0].double().softmax(-1)
                weight *= 1 - float(after[sorted(going_on)].sum())
            weights.append(weight)
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("kind", ["qwen", "llama_3", "llama_2"])
def test_the_expectation_is_that_of_101_plain_runs(kind: str, request: pytest.FixtureRequest) -> None:
    options = {"template": "llama_3", "prompt": "2"} if kind == "llama_3" else {}
    scorer = make(FIXTURE if kind == "qwen" else request.getfixturevalue(kind), **options)
    assert len(scorer._tree.nodes) == (1 if kind == "llama_3" else 11)
    sample = ImageText(picture(), "a dog on the beach")
    row = one(scorer, sample)
    for metric in (ITM, CTQ):
        wanted = by_brute_force(scorer, sample, metric)
        assert row[f"{metric}_score"] == pytest.approx(float(wanted @ np.arange(101)), abs=1e-3)
        assert row[f"{metric}_answer"] == int(wanted.argmax())
        entropy = -float((wanted * np.log(wanted.clip(1e-300))).sum())
        assert row[f"{metric}_entropy"] == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize("answer", ["expected", "greedy"])
def test_neighbours_never_change_a_score(answer: str) -> None:
    scorer = make(answer=answer, compat="original" if answer == "greedy" else None)
    names = [name for name in scorer.columns.names if name.endswith("_score")]
    items = [scorer.prepare(sample) for sample in pairs()]
    together, backwards = scorer.score(items), scorer.score(items[::-1])
    for i, item in enumerate(items):
        alone = scorer.score([item])
        for name in names:
            assert together[name][i] == pytest.approx(alone[name][0], abs=1e-3)
            assert backwards[name][-1 - i] == pytest.approx(alone[name][0], abs=1e-3)


def test_100_stays_100(tmp_path: Path) -> None:
    """The published scripts generate two tokens, so that their best samples get 10."""
    model = answering(tmp_path / "m", HUNDRED)
    sample = ImageText(picture(), "a dog")
    greedy = one(make(model, answer="greedy"), sample)
    published = one(make(model, compat="original", answer="greedy"), sample)
    expected = one(make(model), sample)
    for metric in METRICS:
        assert (greedy[f"{metric}_score"], greedy[f"{metric}_answer"]) == (100, 100)
        assert published[f"{metric}_answer"] == 10
        assert expected[f"{metric}_score"] == pytest.approx(100, abs=0.1)
        assert expected[f"{metric}_answer"] == 100
        assert expected[f"{metric}_entropy"] < 0.05


def test_one_digit_that_ends_is_one_digit(tmp_path: Path) -> None:
    model = answering(tmp_path / "m", {SPACE: "8", "8": "Ċ", "Ċ": "5"})
    greedy, expected = one(make(model, answer="greedy"), pairs()[0]), one(make(model), pairs()[0])
    assert greedy[f"{SU}_answer"] == expected[f"{SU}_answer"] == 8
    assert expected[f"{SU}_score"] == pytest.approx(8, abs=0.1)


def test_llama_2_writes_a_blank_first_with_either_space(llama_2: Path, tmp_path: Path) -> None:
    """Trained on `ASSISTANT: 85`, it would spend one of its tokens on the blank: "100" would become 10 again."""
    model = answering(tmp_path / "m", {"▁": "1", "1": "0", "0": "0"}, llama_2)
    for space in ("published", "trained"):
        scorer = make(model, answer="greedy", space=space)
        questions = scorer.prepare(pairs()[0]).payload.questions
        assert questions.lanes[0][-1] == scorer.loaded.tokenizer.hf.convert_tokens_to_ids("▁")
        assert one(scorer, pairs()[0])[f"{ITM}_answer"] == 100


def test_llama_3_answers_with_one_token(llama_3: Path) -> None:
    options = {"answer": "greedy", "vision": "embedded"}
    scorer = make(llama_3, compat="original", template="llama_3", prompt="2", **options)
    assert scorer._answer_tokens == 1
    assert make(compat="original", answer="greedy")._answer_tokens == 2


def test_the_space_that_training_had_not_is_left_out() -> None:
    published, trained = make(), make(space="trained")
    lanes = [scorer.prepare(pairs()[0]).payload.questions.lanes[0] for scorer in (published, trained)]
    assert lanes[0] == [*lanes[1], 223]
    assert one(published, pairs()[0])[f"{ITM}_score"] != one(trained, pairs()[0])[f"{ITM}_score"]


def test_what_is_no_number_is_a_reason_and_other_metrics_stay() -> None:
    """The fixture's model goes on to write digits: of its sample 4 only one answer ("059") is a number up to 100."""
    row = one(make(answer="greedy"), pairs()[4])
    assert (row[f"{ITM}_score"], row[f"{ITM}_answer"]) == (59, 59)
    for metric, text in ((ODF, "128"), (CTQ, "505"), (SU, "965")):
        error = row[f"{metric}_score"]
        assert isinstance(error, SampleError)
        assert error.status == Status.FAILED
        assert error.reason == f"{metric}: the model answered '{text}', which is no number from 0 to 100"
        assert row[f"{metric}_answer"] is None


def test_what_is_no_number_is_a_reason_in_compat_too(tmp_path: Path) -> None:
    model = answering(tmp_path / "m", {SPACE: "N", "N": "/"})
    row = one(make(model, compat="original", answer="greedy"), pairs()[0])
    assert "the model answered 'N/'" in row[f"{ITM}_score"].reason
