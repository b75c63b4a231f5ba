"""MLM-Filter against what the published v2 code gave on CPU in float32, one sample at a time (see the fixture)."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.scoring.mlm_models import FIXTURE, make, pairs
from vlfilter.data.shards import list_shards
from vlfilter.models.lanes import Row, greedy, tree_log_probabilities
from vlfilter.models.preprocess import normalise
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import METRICS
from vlfilter.scoring.runner import BatchRunner

EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())
RESULTS: list[dict[str, Any]] = EXPECTED["results"]
DIGITS = list(range(18, 28))  # "0" … "9" in the fixture's tokenizer


@pytest.fixture(scope="module")
def original() -> MlmFilter:
    return make(compat="original", answer="greedy")


@pytest.fixture(scope="module")
def default() -> MlmFilter:
    return make(answer="greedy")


def prepared(scorer: MlmFilter) -> list[Prepared]:
    return [scorer.prepare(pair) for pair in pairs()]


def pixels(scorer: MlmFilter, item: Prepared) -> torch.Tensor:
    return normalise(torch.from_numpy(item.payload.pixels.copy())[None], scorer.loaded.images)


@pytest.mark.parametrize("compat", ["original", "default"])
def test_prompts_and_their_tokens(compat: str, request: pytest.FixtureRequest) -> None:
    scorer: MlmFilter = request.getfixturevalue(compat)
    assert [pair.caption for pair in pairs()] == EXPECTED["captions"]
    for pair, item, result in zip(pairs(), prepared(scorer), RESULTS, strict=True):
        for metric, lane in zip(METRICS, item.payload.questions.lanes, strict=True):
            prompt = scorer._asker.prompt(metric, pair.caption)
            assert sha256(prompt.encode()).hexdigest() == result[metric]["prompt_sha256"]
            assert len(item.payload.questions.prefix) + len(lane) == result[metric]["num_tokens"]
            assert lane[-1] == EXPECTED["whitespace_token_id"]


def answers(columns: dict[str, Any]) -> list[dict[str, int]]:
    return [{metric: columns[f"{metric}_answer"][i] for metric in METRICS} for i in range(len(columns["truncated"]))]


def test_greedy_answers_in_one_batch_and_one_by_one(original: MlmFilter) -> None:
    wanted = [{metric: int(result[metric]["text"]) for metric in METRICS} for result in RESULTS]
    assert answers(original.score(prepared(original))) == wanted
    assert [answers(original.score([item]))[0] for item in prepared(original)] == wanted
    assert answers(original.score(prepared(original)[::-1])) == wanted[::-1]


@pytest.mark.parametrize("together", [True, False])
def test_greedy_texts(original: MlmFilter, together: bool) -> None:
    items = prepared(original)
    batches = [items] if together else [[item] for item in items]
    texts = []
    with torch.inference_mode():
        for batch in batches:
            rows = [Row(item.payload.questions.prefix, item.payload.questions.lanes) for item in batch]
            chosen = greedy(original.loaded.model, rows, [pixels(original, item) for item in batch], 2)
            texts += [[original.loaded.tokenizer.hf.decode(lane) for lane in row] for row in chosen]
    assert texts == [[result[metric]["text"] for metric in METRICS] for result in RESULTS]


def test_digit_logits(default: MlmFilter) -> None:
    with torch.inference_mode():
        for item, result in zip(prepared(default), RESULTS, strict=True):
            questions = item.payload.questions
            ids = [torch.tensor([*questions.prefix, *lane]) for lane in questions.lanes]
            logits = default.loaded.model(ids, [pixels(default, item)] * len(ids))[:, DIGITS]
            wanted = torch.tensor([result[metric]["digit_logits"] for metric in METRICS])
            assert logits == pytest.approx(wanted, abs=1e-4)


def test_digit_probabilities_of_all_questions_in_one_pass(default: MlmFilter) -> None:
    """Log-probabilities differ from logits by a constant of the whole vocabulary, so their differences are equal."""
    items = prepared(default)
    rows = [Row(item.payload.questions.prefix, item.payload.questions.lanes) for item in items]
    with torch.inference_mode():
        images = [pixels(default, item) for item in items]
        logs = tree_log_probabilities(default.loaded.model, rows, images, ((),), DIGITS)[:, :, 0].numpy()
    wanted = np.array([[result[metric]["digit_logits"] for metric in METRICS] for result in RESULTS])
    assert logs - logs[..., :1] == pytest.approx(wanted - wanted[..., :1], abs=1e-4)


def test_a_whole_tar_through_the_engine(original: MlmFilter, tmp_path: Path) -> None:
    """The reader gives an empty caption a row without a score; the published script scored it (see the batch above)."""
    (shard,) = list_shards(str(FIXTURE / "00000000.tar"))
    (result,) = score_shard(shard, [BatchRunner(original, 1500)], str(tmp_path), EngineSettings())
    table = pq.read_table(result.url)
    assert table["status"].to_pylist() == ["ok", "ok", "missing_text", "ok", "ok"]
    for metric in METRICS:
        wanted = [int(row[metric]["text"]) if i != 2 else None for i, row in enumerate(RESULTS)]
        assert table[f"{metric}_answer"].to_pylist() == wanted
        assert table[f"{metric}_score"].to_pylist() == wanted
        assert table[f"{metric}_entropy"].to_pylist() == [None] * 5
    assert table.select(original.columns.names).schema.remove_metadata() == original.columns
