"""What people look at on the page of an MLM-Filter run: choice, grades, balance, loss curve, selection."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from tasks.markdown import bullets, code
from vlfilter.report.curves import training_curve
from vlfilter.training.run_folder import RunFolder, read_metrics


def cluster_table(found: Mapping[str, Any]) -> None:
    """Captions and chosen pairs of each cluster."""
    problems = "".join(f", {n} {status}" for status, n in found["problems"].items())
    create_table_artifact(
        found["clusters"],
        key="mlm-filter-clusters",
        description=f"{found['pairs']} of {found['wanted']} pairs chosen among {found['samples']} samples{problems}",
    )


def grade_table(found: Mapping[str, Any]) -> None:
    """How many rows came out with which status, and why some have no score."""
    rows = [{"status": status, "rows": n, "reason": ""} for status, n in found["rows"].items()]
    rows += [{"status": "", "rows": one["rows"], "reason": one["reason"]} for one in found["reasons"]]
    tokens = f"{found['input_tokens']} tokens in, {found['output_tokens']} out"
    create_table_artifact(rows, key="mlm-filter-grades", description=f"{found['pairs']} pairs graded, {tokens}")


def balance_table(found: Mapping[str, Any]) -> None:
    """Rows by metric and score, graded and chosen."""
    create_table_artifact(
        found["histogram"], key="mlm-filter-balance", description=f"{found['rows']} rows chosen, by score"
    )


def loss_curve(output: str) -> None:
    """Loss and throughput of a training run, as far as it came."""
    rows = read_metrics(RunFolder(Path(output)).metrics)
    if not rows:
        return
    png = base64.b64encode(training_curve(rows)).decode()
    last = rows[-1]
    create_image_artifact(f"data:image/png;base64,{png}", key="mlm-filter-loss", description="Loss and throughput")
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    samples, tokens = (sum(row.get(name, 0) for row in rows) for name in ("samples", "tokens"))
    summary = {
        "steps": last["step"],
        "loss": last.get("loss"),
        "samples": samples,
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "samples_per_second": round(samples / seconds, 2) if seconds else None,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
    }
    create_table_artifact([summary], key="mlm-filter-training", description="The training run")


def selection_note(found: Mapping[str, Any], place: str) -> None:
    text = f"{bullets(found['lines'])}\n\nin {code(place)}"
    create_markdown_artifact(text, key="mlm-filter-selection", description="What was kept")
