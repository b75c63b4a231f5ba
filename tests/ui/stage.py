"""What the browser test looks at: shards in an S3 store, a Prefect server with its UI and our deployments, a worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

from tests.helpers import pairs, tar_bytes
from tests.operations import ROOT, Operator
from tests.prefect_server import migrated_database
from tests.recovery.services import QUIET, S3, PrefectServer

SHARDS, SAMPLES = 8, 40
SHARD_URLS = f"s3://datacomp/shards/{{00000..{SHARDS - 1:05d}}}.tar"


@dataclass
class Stage:
    operator: Operator
    store: Any
    model: Path
    ui: str

    def write_shard(self, number: int, content: bytes | None = None) -> None:
        """As it should be, or with this content."""
        data = tar_bytes(pairs(SAMPLES, number * SAMPLES)) if content is None else content
        self.store.pipe_file(f"datacomp/shards/{number:05d}.tar", data)

    def tables(self, folder: str) -> dict[str, str]:
        """When the score table of each shard was written."""
        found = self.store.ls(f"datacomp/{folder}/clip_score", detail=True, refresh=True)
        return {Path(one["name"]).stem: str(one["LastModified"]) for one in found if one["name"].endswith(".parquet")}

    def scored(self, run: str, since: str = "") -> list[str]:
        """The shards whose tasks a run has begun since a moment (ISO, UTC)."""
        wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
        groups = [group["id"] for group in self.operator.ask("POST", "/flow_runs/filter", wanted)]
        tasks = self.operator.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": groups}}})
        begun = [task["name"] for task in tasks if task["start_time"] and task["start_time"] >= since]
        return sorted(name.removeprefix("score ") for name in begun if name.startswith("score "))


@contextmanager
def set_up(folder: Path) -> Iterator[Stage]:
    database = folder / "prefect.db"
    shutil.copy(migrated_database(), database)
    with S3(folder) as s3, PrefectServer(folder, f"sqlite+aiosqlite:///{database}") as server:
        environment = {
            **QUIET,
            "AWS_ENDPOINT_URL": s3.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PREFECT_LOGGING_TO_API_ENABLED": "true",
        }
        deploying = {**os.environ, "PREFECT_API_URL": server.url}
        subprocess.run([sys.executable, "-m", "deployments.apply"], cwd=ROOT, env=deploying, check=True, timeout=600)
        operator = Operator(server.url, folder, environment)
        store = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=s3.url, skip_instance_cache=True)
        store.mkdir("datacomp")
        stage = Stage(operator, store, _model(folder / "clip"), server.url.removesuffix("/api"))
        for number in range(SHARDS):
            stage.write_shard(number)
        with operator.worker("cpu"), operator.worker("gpu"):
            yield stage


def _model(folder: Path) -> Path:
    """A small CLIP with random weights."""
    from vlfilter.models.clip import save_clip
    from vlfilter.models.clip_text import openai_tokenizer
    from vlfilter.models.presets import build_clip, clip_images

    tokenizer = openai_tokenizer()
    return save_clip(folder, build_clip("clip_tiny", tokenizer), tokenizer, clip_images("clip_tiny"))
