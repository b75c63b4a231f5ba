"""What people look at on the page of a UniFilter run: levels, loss curves, the confusion matrix, the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.markdown import bullets, code
from vlfilter.training.level_metrics import NAMES
from vlfilter.training.run_folder import RunFolder, read_metrics


def level_table(found: Mapping[str, Any]) -> None:
    """Rows of each kind and level."""
    create_table_artifact(found["levels"], key="unifilter-levels", description="Rows of the synthetic data")


def validation_report(output: str) -> None:
    """Accuracy after each epoch, and the kept epoch's confusion matrix, levels and kinds."""
    rows = [row for row in read_metrics(RunFolder(Path(output)).metrics) if "validation" in row]
    if rows:
        text = validation_text(rows)
        create_markdown_artifact(text, key="unifilter-confusion", description="Validation of the classifier")


def validation_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of validation rows as the trainer writes them."""
    kept = [row for row in rows if row["kept"]][-1]
    found = kept["validation"]
    spearman = "–" if found["spearman"] is None else f"{found['spearman']:.3f}"
    lines = [
        f"Kept: epoch {kept['epoch']}, accuracy **{found['accuracy']:.3f}** on {found['rows']} rows, macro F1 "
        f"{found['f1']:.3f}, Spearman {spearman}.",
        "",
        f"| labelled ↓ judged → | {' | '.join(NAMES)} | recall | F1 |",
        f"|---|{'---:|' * (len(NAMES) + 2)}",
    ]
    for level, counts in zip(found["levels"], found["confusion"], strict=True):
        cells = " | ".join(map(str, counts))
        lines.append(f"| {level['level']} {level['name']} | {cells} | {level['recall']:.3f} | {level['f1']:.3f} |")
    lines += ["", "| kind | rows | accuracy |", "|---|---:|---:|"]
    lines += [f"| {kind} | {part['rows']} | {part['accuracy']:.3f} |" for kind, part in found["kinds"].items()]
    lines += ["", "| epoch | step | accuracy | F1 |", "|---:|---:|---:|---:|"]
    lines += [
        f"| {row['epoch']} | {row['step']} | {row['validation']['accuracy']:.3f} | {row['validation']['f1']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def selection_note(found: Mapping[str, Any], place: str) -> None:
    text = f"{bullets(found['lines'])}\n\nin {code(place)}"
    create_markdown_artifact(text, key="unifilter-selection", description="What was kept")
