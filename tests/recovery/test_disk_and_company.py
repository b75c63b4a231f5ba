"""A disk that fills up, and two runs on one output at once: real processes, real file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import make_shards
from tests.operations import ROOT
from tests.toy import NAME
from vlfilter.data.tables import read_footer
from vlfilter.errors import VlfilterError

pytestmark = [pytest.mark.operations, pytest.mark.timeout(1200)]
VLFILTER = [sys.executable, "-c", "from vlfilter.cli import main; main()"]
SHARDS, SAMPLES = 24, 20


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """`vlfilter score` over some shards with the toy, without the output."""
    make_shards(tmp_path / "data", SHARDS, SAMPLES)
    (tmp_path / "toy.txt").write_text("1.0")
    model = f"{NAME}={tmp_path / 'toy.txt'}"
    return [*VLFILTER, "score", "--shards", str(tmp_path / "data"), "--scorer", NAME, "--model", model]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A Prefect of its own, with no server."""
    without = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**without, "PREFECT_HOME": str(folder), "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


def tables(folder: Path) -> dict[str, pa.Table]:
    paths = sorted((folder / "toy").glob("*.parquet"))
    return {path.name: pq.read_table(path).replace_schema_metadata(None) for path in paths}


# A file system of 256 kB with little left on it; when it is full the run must end by saying so. Then room is made.
FULL = """
set -eu
mount -t tmpfs -o size=256k tmpfs "$DISK"
head -c 200000 /dev/zero > "$DISK/ballast"
"$@" --output "$DISK/out" > "$RESULTS/full.txt" 2>&1 && exit 9
$VLFILTER_STATUS --output "$DISK/out" > "$RESULTS/status.txt" 2>&1 && exit 8
find "$DISK/out" -name '.*.tmp' > "$RESULTS/left.txt"
ls -l --time-style=full-iso "$DISK/out/toy" | grep parquet > "$RESULTS/before.txt"
rm "$DISK/ballast"
mount -o remount,size=8m "$DISK"
$VLFILTER_RETRY --output "$DISK/out" > "$RESULTS/retry.txt" 2>&1
ls -l --time-style=full-iso "$DISK/out/toy" | grep parquet > "$RESULTS/after.txt"
cp -r "$DISK/out" "$RESULTS/out"
"""


def may_mount() -> bool:
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("unshare") or not may_mount(), reason="no mount namespaces here")
def test_a_full_disk(command: list[str], tmp_path: Path) -> None:
    disk, results = tmp_path / "disk", tmp_path / "results"
    disk.mkdir()
    results.mkdir()
    script = tmp_path / "full.sh"
    own = f"{sys.executable} {tmp_path / 'program.py'}"
    (tmp_path / "program.py").write_text("from vlfilter.cli import main\nmain()\n")
    script.write_text(FULL)
    more = {"DISK": str(disk), "RESULTS": str(results)}
    more |= {"VLFILTER_STATUS": f"{own} status", "VLFILTER_RETRY": f"{own} retry"}
    done = subprocess.run(
        ["unshare", "-rm", "bash", str(script), *command],
        env=environment(tmp_path / "prefect", **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    said = {path.name: path.read_text() for path in results.glob("*.txt")}
    assert done.returncode == 0, (done.stderr, said)
    assert "No space left on device" in said["full.txt"] + said["status.txt"]
    assert said["left.txt"] == ""
    before = said["before.txt"].splitlines()
    assert 0 < len(before) < SHARDS
    assert set(before) <= set(said["after.txt"].splitlines())  # sizes and times too
    subprocess.run(
        [*command, "--output", str(tmp_path / "roomy")], env=environment(tmp_path / "prefect"), check=True, timeout=900
    )
    assert tables(results / "out") == tables(tmp_path / "roomy")
    assert len(tables(results / "out")) == SHARDS


def test_two_runs_on_one_output(command: list[str], tmp_path: Path) -> None:
    """Whoever looks at any moment sees whole tables; both runs succeed; nothing is left beside the tables."""
    output = tmp_path / "out"
    slow = {"TOY_SECONDS": "0.1"}
    runs = [
        subprocess.Popen([*command, "--output", str(output)], env=environment(tmp_path / f"prefect-{number}", **slow))
        for number in range(2)
    ]
    looks = 0
    while any(run.poll() is None for run in runs):
        for path in output.glob("toy/*.parquet"):
            try:
                assert read_footer(str(path)).rows == SAMPLES
            except VlfilterError as error:  # pragma: no cover
                pytest.fail(f"a torn table: {error}")
            looks += 1
        time.sleep(0.02)  # the runs need the processor more
    assert [run.returncode for run in runs] == [0, 0]
    assert looks > SHARDS
    assert {path.name for path in output.glob("toy/*")} == {f"{i:05d}.parquet" for i in range(SHARDS)} | {"run.json"}
    subprocess.run(
        [*command, "--output", str(tmp_path / "alone")],
        env=environment(tmp_path / "prefect-0"),
        check=True,
        timeout=900,
    )
    assert tables(output) == tables(tmp_path / "alone")
