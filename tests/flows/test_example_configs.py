"""The configuration files that we ship describe whole runs that the flows accept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlfilter.methods.data_engine import params as data_engine
from vlfilter.methods.minigpt_v2 import params as minigpt_v2
from vlfilter.methods.mlm_filter import params as mlm_filter
from vlfilter.methods.self_filter import params as self_filter
from vlfilter.methods.unifilter import params as unifilter

FOLDER = Path(__file__).parents[2] / "deployments"
STEPS = {
    "mlm_filter": ("sample", "grade", "balance", "mix", "finetune", "score", "select"),
    "unifilter": unifilter.STEPS,
    "data_engine": data_engine.STEPS,
    "minigpt_v2": minigpt_v2.STEPS,
    "self_filter": tuple(step for step in self_filter.STEPS if step != "judge"),
}


@pytest.mark.parametrize(
    ("name", "parse"),
    [
        ("mlm_filter", mlm_filter.parse_params),
        ("unifilter", unifilter.parse_params),
        ("self_filter", self_filter.parse_params),
        ("data_engine", data_engine.parse_params),
        ("minigpt_v2", minigpt_v2.parse_params),
    ],
)
def test_every_step_of_the_example_is_understood(name: str, parse: Callable[[Any, str], Any]) -> None:
    path = FOLDER / f"{name}.yaml"
    params = parse(yaml.safe_load(path.read_text()), path.name)
    assert all(getattr(params, step) is not None for step in STEPS[name])
