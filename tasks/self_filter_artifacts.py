"""What people look at on the page of a Self-Filter run: rows by status, loss curves, the selection."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from vlfilter.methods.self_filter.places import SelfFilterPlaces
from vlfilter.methods.self_filter.selecting import SelectSummary
from vlfilter.report.curves import training_curve
from vlfilter.training.run_folder import RunFolder, read_metrics


def counts_table(step: str, counts: Mapping[str, int]) -> None:
    """Rows by status."""
    rows = [{"status": status, "rows": count} for status, count in counts.items()]
    create_table_artifact(rows, key=f"self-filter-{step}", description=f"Rows after {step}")


def loss_curve(output: str, stage: str) -> None:
    """Loss and throughput of a training run, as far as it came."""
    rows = [row for row in read_metrics(RunFolder(Path(output)).metrics) if "loss" in row]
    if not rows:
        return
    png = base64.b64encode(training_curve(rows)).decode()
    note = f"{stage}: loss {rows[-1]['loss']:.4f} after {rows[-1]['step']} steps"
    create_image_artifact(
        f"data:image/png;base64,{png}", key=f"self-filter-{stage.replace(' ', '-')}-loss", description=note
    )


def selection_note(found: SelectSummary, places: SelfFilterPlaces) -> None:
    lines = "\n".join(f"- {line}" for line in [*found.lines(), *found.warnings()])
    text = f"{lines}\n\n`{places.selected}`, picks with rank, difficulty and penalty in `{places.picks}`"
    create_markdown_artifact(text, key="self-filter-selection", description="What was selected")
