"""What can be seen to be wrong before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vlfilter.evaluation.benchmarking import check_benchmarks
from vlfilter.methods.minigpt_v2.mixtures import open_mixture, place_mixture
from vlfilter.methods.minigpt_v2.params import MinigptV2Params
from vlfilter.training.mixture_check import DatasetState, look_at, require_ready

log = logging.getLogger(__name__)


def check_inputs(params: MinigptV2Params) -> None:
    """Raises `VlfilterError` for a mixture that cannot be read, and for benchmarks whose files are not there."""
    if params.train:
        open_mixture(params.mixture, params.data)
    if evaluation := params.evaluation():
        check_benchmarks(evaluation)


def check_datasets(params: MinigptV2Params, show: Callable[[list[DatasetState]], None]) -> list[DatasetState]:
    """Look at all data sets of the mixture, `show` what was found, and write the mixture to its place.

    Raises `VlfilterError` listing what is missing of which data set.
    """
    settings = params.training()
    assert settings is not None
    placed = place_mixture(params.mixture, params.data, params.places.mixture)
    states = []
    for state in look_at(placed, settings.seed, params.check.samples, settings.bad_rows):
        log.info("%s: %s", state.name, f"{state.rows} rows" if state.ready else "; ".join(state.problems))
        states.append(state)
    show(states)
    require_ready(states)
    return states
