"""What people look at on the page of a MiniGPT-v2 run."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_table_artifact

from vlfilter.training.mixture_check import DatasetState


def datasets_table(states: Sequence[DatasetState]) -> None:
    """Each data set with its rows and what is missing."""
    ready = sum(state.ready for state in states)
    create_table_artifact(
        [state.to_json() for state in states],
        key="minigpt-v2-data-sets",
        description=f"{ready} of {len(states)} data sets are ready",
    )
