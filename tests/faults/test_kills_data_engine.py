"""SIGKILL at seeded moments of a round of the data engine, trainings included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.kills import survives
from tests.flows.test_data_engine import models, work

__all__ = ["models", "work"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_data_engine(work: dict[str, Any], prefect_api: str) -> None:
    kills = survives(
        "flows.data_engine:data_engine", "vlfilter.methods.data_engine.params", work, prefect_api, range(2)
    )
    assert kills >= 2
