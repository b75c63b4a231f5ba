"""Where a fine-tuning run keeps its things, and which of its checkpoints are complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlfilter.data.storage import write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json

COMPLETE = "complete.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The output folder of a run."""

    path: Path

    @property
    def model(self) -> Path:
        """The finished model, in the published layout (or config.json with the projector, after stage 1)."""
        return self.path / "model"

    @property
    def done(self) -> Path:
        """Written last: what the finished model was made of."""
        return self.path / "finetune.json"

    @property
    def job(self) -> Path:
        """What the processes are told, and what a resumed run must agree with."""
        return self.path / "job.json"

    @property
    def report(self) -> Path:
        return self.path / "data_report.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a step: the loss curve."""
        return self.path / "metrics.jsonl"

    @property
    def best(self) -> Path:
        """A classifier's best model so far, until it becomes `model`."""
        return self.path / "best"

    @property
    def best_epoch(self) -> Path:
        """Which epoch's model is kept, with its validation metrics."""
        return self.path / "best.json"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def error(self, rank: int) -> Path:
        """Why a process ended."""
        return self.path / f"error-{rank}.txt"

    def errors(self) -> list[Path]:
        return sorted(self.path.glob("error-*.txt"), key=lambda path: path.stat().st_mtime_ns)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    write_bytes(str(path), (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _numbered(checkpoints: Path) -> Iterator[tuple[int, Path]]:
    for folder in checkpoints.glob("checkpoint-*"):
        number = folder.name.removeprefix("checkpoint-")
        if number.isdecimal():
            yield int(number), folder


def mark_complete(checkpoint: Path, step: int) -> None:
    """Call when every process has written its part: only then may a run resume from it."""
    write_json(checkpoint / COMPLETE, {"step": step})


def last_complete(checkpoints: Path) -> tuple[int, Path] | None:
    """The step and folder of the newest complete checkpoint."""
    return max(((step, path) for step, path in _numbered(checkpoints) if (path / COMPLETE).is_file()), default=None)


def drop_incomplete(checkpoints: Path) -> None:
    """Remove what a killed run left half-written."""
    for _, folder in _numbered(checkpoints):
        if not (folder / COMPLETE).is_file():
            shutil.rmtree(folder, ignore_errors=True)


def keep_newest(checkpoints: Path, count: int) -> None:
    """Remove all but the newest `count` complete checkpoints."""
    complete = sorted(item for item in _numbered(checkpoints) if (item[1] / COMPLETE).is_file())
    for _, folder in complete[:-count]:
        (folder / COMPLETE).unlink()  # first, so that a half-removed one never counts
        shutil.rmtree(folder, ignore_errors=True)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a loss curve; a last line that was cut short is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def cut_metrics(path: Path, step: int) -> None:
    """Drop the rows after `step`, which a resumed run writes again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    write_bytes(str(path), "".join(json.dumps(row) + "\n" for row in rows).encode())


def read_done(folder: RunFolder) -> dict[str, Any] | None:
    """What the finished model was made of, or None. Raises `VlfilterError` for a torn file."""
    if not folder.done.is_file():
        return None
    if not (folder.model / "config.json").is_file():
        raise VlfilterError(
            f"{folder.done} says that the run is done, but {folder.model} is gone: remove {folder.path}."
        )
    return read_json(folder.done)
