"""`vlfilter score --scorer mlm_filter` in a process of its own, against a real Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.scoring.mlm_models import FIXTURE, make, one, pairs
from vlfilter.scoring.mlm_filter_prompts import METRICS

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-c", "from vlfilter.cli import main; main()", "score", "--shards", str(FIXTURE), "--output",
           "out", "--scorer", "mlm_filter", "--model", f"mlm_filter={FIXTURE}", "--device", "cpu"]  # fmt: skip


def score(folder: Path, api: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def test_a_shard_from_tar_to_table(tmp_path: Path, prefect_api: str) -> None:
    done = score(tmp_path, prefect_api)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pq.read_table(tmp_path / "out" / "mlm_filter" / "00000000.parquet")
    rows = table.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok", "missing_text", "ok", "ok"]
    scorer = make()
    for row, sample in zip(rows, pairs(), strict=True):
        if row["status"] == "ok":
            wanted = one(scorer, sample)
            for metric in METRICS:
                assert row[f"{metric}_score"] == pytest.approx(wanted[f"{metric}_score"], abs=1e-3)
                assert row[f"{metric}_answer"] == wanted[f"{metric}_answer"]
    footer = json.loads(table.schema.metadata[b"vlfilter"])
    assert footer["parts"]["options"]["answer"] == "auto"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("metric=image_text_match", "MLM-Filter has no metric 'image_text_match'"),
        ("answers=greedy", "mlm_filter has no option answers"),
    ],
)
def test_a_wrong_option_ends_before_anything_runs(tmp_path: Path, option: str, message: str) -> None:
    done = score(tmp_path, "http://127.0.0.1:9/api", "--option", f"mlm_filter.{option}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
