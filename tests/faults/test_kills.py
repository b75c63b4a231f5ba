"""SIGKILL at seeded moments of the flows: started again, they end with what an undisturbed run makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.small_model import save_model
from tests.faults.kills import survives
from tests.flows.test_evaluate import fields
from tests.flows.test_mlm_filter import FIXTURE as MLM_FILTER
from tests.flows.test_mlm_filter import METRIC
from tests.flows.test_mlm_filter import work as mlm_work
from tests.flows.test_unifilter import FIXTURE as UNIFILTER
from tests.flows.test_unifilter import work as unifilter_work
from tests.llm.vendor import VendorServer
from vlfilter.scoring.params import ScoreParams

__all__ = ["fields", "mlm_work", "unifilter_work"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_score(toy_run: Callable[[int, int], ScoreParams], prefect_api: str) -> None:
    params = toy_run(6, 4).model_dump()
    kills = survives("flows.score_shards:score_shards", "vlfilter.scoring.params", params, prefect_api, range(3))
    assert kills >= 3


def test_evaluate(fields: dict[str, Any], prefect_api: str, tmp_path: Path) -> None:
    fields |= {"model": save_model(tmp_path / "model"), "model_id": "tiny"}
    kills = survives("flows.evaluate:evaluate", "vlfilter.evaluation.params", fields, prefect_api, range(3))
    assert kills >= 3


def paid_once(vendor: VendorServer, runs: int, kills: int, at_once: int) -> None:
    """Each run pays for each question once; a kill costs no more than what was under way."""
    asked = [json.dumps(seen.body, sort_keys=True) for seen in vendor.questions()]  # pictures are part of a question
    assert runs * len(set(asked)) <= len(asked) <= runs * len(set(asked)) + kills * at_once


def test_mlm_filter(mlm_work: dict[str, Any], vendor: VendorServer, prefect_api: str, tmp_path: Path) -> None:
    mlm_work["grade"] = {**mlm_work["grade"], "concurrency": 2}
    mlm_work |= {
        "score": {
            "shards": str(MLM_FILTER / "00000000.tar"),
            "model": str(MLM_FILTER),
            "metric": METRIC,
            "device": "cpu",
        },
        "select": {"where": f"{METRIC.split(',')[0]}_score >= top(50%)"},
    }
    kills = survives(
        "flows.mlm_filter:mlm_filter", "vlfilter.methods.mlm_filter.params", mlm_work, prefect_api, range(3)
    )
    assert kills >= 3
    paid_once(vendor, 4, kills, 2)


def test_unifilter(unifilter_work: dict[str, Any], vendor: VendorServer, prefect_api: str) -> None:
    unifilter_work["synthesize"] = {**unifilter_work["synthesize"], "concurrency": 2}
    unifilter_work |= {
        "score": {"shards": str(UNIFILTER / "00000000.tar"), "model": str(UNIFILTER), "device": "cpu"},
        "select": {"fraction": 0.4},
    }
    kills = survives(
        "flows.unifilter:unifilter", "vlfilter.methods.unifilter.params", unifilter_work, prefect_api, range(3)
    )
    assert kills >= 3
    paid_once(vendor, 4, kills, 2)
