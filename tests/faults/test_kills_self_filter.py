"""SIGKILL at seeded moments of Self-Filter's flow, trainings included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.kills import survives
from tests.flows.test_self_filter import models, work

__all__ = ["models", "work"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_self_filter(work: dict[str, Any], prefect_api: str) -> None:
    kills = survives(
        "flows.self_filter:self_filter", "vlfilter.methods.self_filter.params", work, prefect_api, range(2)
    )
    assert kills >= 2
