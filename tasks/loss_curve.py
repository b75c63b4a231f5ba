"""The loss curve of a training on the run's page."""

from __future__ import annotations

import base64
from pathlib import Path

from prefect.artifacts import create_image_artifact

from vlfilter.report.curves import training_curve
from vlfilter.training.run_folder import RunFolder, read_metrics


def loss_curve(output: str, key: str, stage: str) -> None:
    """Loss and throughput of the training in the folder `output`, as far as it came."""
    rows = [row for row in read_metrics(RunFolder(Path(output)).metrics) if "loss" in row]
    if not rows:
        return
    png = base64.b64encode(training_curve(rows)).decode()
    note = f"{stage}: loss {rows[-1]['loss']:.4f} after {rows[-1]['step']} steps"
    create_image_artifact(f"data:image/png;base64,{png}", key=key, description=note)
