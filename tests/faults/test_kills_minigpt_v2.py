"""SIGKILL at seeded moments of MiniGPT-v2's flow, training and evaluation included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.kills import survives
from tests.flows.test_minigpt_v2 import start, work

__all__ = ["start", "work"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_minigpt_v2(work: dict[str, Any], prefect_api: str) -> None:
    kills = survives("flows.minigpt_v2:minigpt_v2", "vlfilter.methods.minigpt_v2.params", work, prefect_api, range(2))
    assert kills >= 2
