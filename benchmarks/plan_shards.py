"""Planning 100,000 shards and cutting them into groups of 200 in the parent run, with no table there and with all.

On a local disk and by S3 listings of 1,000 keys from a server on loopback that answers from memory.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import (
    QUIET,
    ROOT,
    Line,
    Measured,
    at_most,
    last_json,
    python,
    run_program,
    scratch_folder,
    write_result,
)
from benchmarks.programs.listing_server import BUCKET
from vlfilter.data.shards import Shard
from vlfilter.data.tables import FOOTER_KEY, Footer, digest, table_schema
from vlfilter.scoring.params import ScoreParams

SHARDS, SECONDS, MEGABYTES = 100_000, 30, 500
NAME = "injection"
NOTHING: Mapping[str, str] = {}
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}


def run() -> bool:
    lines: list[Line] = []
    details: dict[str, Any] = {"shards": SHARDS, "samples_a_shard": 1}

    def measure(
        what: str, params: ScoreParams, open_shards: int, limited: bool = True, env: Mapping[str, str] = NOTHING
    ) -> None:
        measured, said = plan(params, env)
        if (said["shards"], said["open"]) != (SHARDS, open_shards):
            raise SystemExit(f"{what}: {said}")
        wall, peak = round(measured.wall_s, 2), round(measured.peak_mb)
        if limited:
            lines.append(at_most(f"{what}, wall", wall, "s", SECONDS))
            lines.append(at_most(f"{what}, peak memory", peak, "MB", MEGABYTES))
        else:
            lines.append(Line(f"{what}, wall", wall, "s"))
        details[what] = {**said, **measured.as_json()}

    with scratch_folder("plan-shards") as folder:
        here = Path(folder)
        make_tars(here / "data")
        local = parameters(str(here / "data"), str(here / "scores"))
        measure("local, no table there", local, SHARDS)
        make_tables(here, local)
        measure("local, all tables there, seen for the first time", local, 0, limited=False)
        measure("local, all tables there", local, 0)
    with listing_server() as url:
        env = {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true"}
        remote = parameters(f"s3://{BUCKET}/data/", f"s3://{BUCKET}/scores")
        measure("S3, no table there", remote.model_copy(update={"output": f"s3://{BUCKET}/empty"}), SHARDS, env=env)
        run_program(python("benchmarks.programs.keep_footers", remote.model_dump_json()), env)
        measure("S3, all tables there", remote, 0, env=env)
    return write_result("plan_shards", lines, details)


def parameters(shards: str, output: str) -> ScoreParams:
    return ScoreParams(shards=shards, output=output, scorer=[NAME])


def plan(params: ScoreParams, env: Mapping[str, str]) -> tuple[Measured, dict[str, Any]]:
    measured, text = run_program(python("benchmarks.programs.plan_shards", params.model_dump_json()), env)
    return measured, last_json(text)


def name(number: int) -> str:
    return f"shard-{number:08d}"


def make_tars(folder: Path) -> None:
    """Empty files with one time: whoever plans looks no further."""
    folder.mkdir()
    for number in range(SHARDS):
        path = folder / f"{name(number)}.tar"
        path.touch()
        os.utime(path, ns=(10**18, 10**18))


def make_tables(here: Path, params: ScoreParams) -> None:
    """One table as the engine writes it, and then copies of its bytes with the shard's name in the footer changed."""
    [scorer] = params.scorers()
    first = name(0)
    shard = Shard(first, str(here / "data" / f"{first}.tar"), 0, str(10**18))
    parts = scorer.fingerprint()
    footer = Footer(shard, scorer.name, digest(parts), parts, {"failed": 1}, 0.1, made="2026-01-01T00:00:00+00:00")
    rows = pa.Table.from_pylist([{"status": "failed"}], schema=table_schema(scorer.columns))
    buffer = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({FOOTER_KEY: footer.to_json()}), buffer, compression="zstd")
    folder = here / "scores" / scorer.name
    folder.mkdir(parents=True)
    for number in range(SHARDS):
        copy = buffer.getvalue().replace(first.encode(), name(number).encode())
        (folder / f"{name(number)}.parquet").write_bytes(copy)


@contextmanager
def listing_server() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.programs.listing_server", str(SHARDS)]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **QUIET}, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(not run())
