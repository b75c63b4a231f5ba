"""What people look at on the page of a Self-Filter run: rows by status, loss curves, the selection."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.markdown import bullets, code
from vlfilter.methods.self_filter.places import SelfFilterPlaces
from vlfilter.methods.self_filter.selecting import SelectSummary


def counts_table(step: str, counts: Mapping[str, int]) -> None:
    """Rows by status."""
    rows = [{"status": status, "rows": count} for status, count in counts.items()]
    create_table_artifact(rows, key=f"self-filter-{step}", description=f"Rows after {step}")


def selection_note(found: SelectSummary, places: SelfFilterPlaces) -> None:
    lines = bullets([*found.lines(), *found.warnings()])
    text = f"{lines}\n\n{code(places.selected)}, picks with rank, difficulty and penalty in {code(places.picks)}"
    create_markdown_artifact(text, key="self-filter-selection", description="What was selected")
