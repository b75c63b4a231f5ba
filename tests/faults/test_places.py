"""What the place of the output may do to a run: torn tables, a full disk, clocks that jump, two runs at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.test_reshard import contents, write_npy
from tests.helpers import make_shards, uid_of
from tests.toy import NAME
from vlfilter.data.receipts import finished, write_receipt
from vlfilter.data.reshard import reshard
from vlfilter.data.shards import list_shards
from vlfilter.data.states import State
from vlfilter.errors import StorageError, VlfilterError
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run
from vlfilter.selection.select import select

ROOT = Path(__file__).parents[2]


def score_all(params: ScoreParams) -> list[str]:
    done = []
    for work in plan_run(params).work:
        score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
        done.append(work.shard.name)
    return done


def tables(output: Path | str) -> dict[str, pa.Table]:
    return {p.name: pq.read_table(p).replace_schema_metadata(None) for p in sorted(Path(output).glob("toy/*.parquet"))}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> ScoreParams:
    folder = tmp_path_factory.mktemp("scored")
    make_shards(folder / "data", 1, 5)
    (folder / "toy.txt").write_text("1.0")
    params = ScoreParams(
        shards=str(folder / "data"), output=str(folder / "out"), scorer=[NAME], model={NAME: str(folder / "toy.txt")}
    )
    score_all(params)
    return params


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_prefix_of_a_table_is_noticed_and_made_again(scored: ScoreParams, data: st.DataObject) -> None:
    path = Path(scored.output) / "toy" / "00000.parquet"
    whole, expected = path.read_bytes(), tables(scored.output)
    try:
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        [state] = plan_run(scored).states
        assert state.state is State.DAMAGED
        assert "00000.parquet" in state.why
        with pytest.raises(VlfilterError, match=r"00000|parquet|table"):
            select(scored.output, str(path.parent / "kept.npy"), top="50%", by="toy_score")
        assert not (path.parent / "kept.npy").exists()
        assert score_all(scored) == ["00000"]
        assert tables(scored.output) == expected
    finally:
        path.write_bytes(whole)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 399))
def test_every_prefix_of_a_step_s_file_or_receipt_is_noticed(tmp_path: Path, length: int) -> None:
    url, parts = str(tmp_path / "step.json"), {"code": 1}
    Path(url).write_text("x" * 400)
    write_receipt(url, parts, {"rows": 3})
    assert finished(url, parts) == {"rows": 3}
    receipt = Path(f"{url}.receipt.json")
    whole = receipt.read_bytes()
    receipt.write_bytes(whole[: length * len(whole) // 400])
    assert finished(url, parts) is None
    receipt.write_bytes(whole)
    Path(url).write_text("x" * length)
    assert finished(url, parts) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk; test_a_file_that_may_not_grow runs everywhere")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_one_clear_error_and_room_is_all_it_takes(
    small_disk: Path, toy_run: Callable[[int, int], ScoreParams]
) -> None:
    params = toy_run(3, 20)
    score_all(params)
    expected = tables(params.output)
    full = params.model_copy(update={"output": str(small_disk / "out")})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(248 * 1024))
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device"):
        score_all(full)
    assert [p for p in small_disk.rglob("*") if p.name.endswith(".tmp")] == []
    assert tables(full.output).items() <= expected.items()
    ballast.unlink()
    score_all(full)
    assert tables(full.output) == expected


def test_a_full_disk_stops_a_reshard_where_it_can_go_on(small_disk: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "data", 2, 40)
    shards = list_shards(str(tmp_path / "data"))
    kept = write_npy(tmp_path / "kept.npy", [uid_of(f"{i:09d}") for i in range(80)])
    reshard(shards, kept, str(tmp_path / "whole"), samples_per_shard=20)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(120 * 1024))
    with pytest.raises(VlfilterError, match="No space left on device"):
        reshard(shards, kept, str(small_disk / "out"), samples_per_shard=20)
    assert not (small_disk / "out" / "meta.json").exists()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    reshard(shards, kept, str(small_disk / "out"), samples_per_shard=20)
    assert contents(small_disk / "out") == contents(tmp_path / "whole")


SCORE = """
import os, resource, sys
from tests.faults.test_places import score_all
from vlfilter.errors import VlfilterError
from vlfilter.scoring.params import ScoreParams
params = ScoreParams.model_validate_json(sys.argv[1])
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
print("ready", flush=True)
sys.stdin.readline()
try:
    score_all(params)
except VlfilterError as error:
    sys.exit(f"VlfilterError: {error}")
"""


def start(params: ScoreParams, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCORE, params.model_dump_json(), *more]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_a_file_that_may_not_grow(toy_run: Callable[[int, int], ScoreParams]) -> None:
    params = toy_run(1, 20)
    process = start(params, "2000")
    _, told = process.communicate("go\n", timeout=100)
    assert process.returncode == 1
    assert told.startswith("VlfilterError: cannot write ")
    assert "File too large" in told
    assert [p.name for p in Path(params.output).rglob("*") if p.is_file()] == []
    assert score_all(params) == ["00000"]


def test_two_runs_on_one_output_at_once_agree(toy_run: Callable[[int, int], ScoreParams], tmp_path: Path) -> None:
    """They start at the same moment on all the same shards; whoever reads meanwhile never sees half of a table."""
    params = toy_run(12, 10)
    alone = params.model_copy(update={"output": str(tmp_path / "alone")})
    score_all(alone)
    expected = tables(alone.output)
    processes = [start(params) for _ in range(2)]
    looked = 0
    for process in processes:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    while any(process.poll() is None for process in processes):
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[0].wait(0.02)
        assert tables(params.output).items() <= expected.items()
        looked += 1
    for process in processes:
        assert process.wait() == 0, process.stderr.read()  # type: ignore[union-attr]
        process.communicate()
    assert looked
    assert tables(params.output) == expected
    assert plan_run(params).work == []
    assert [p.name for p in Path(params.output).rglob("*") if p.name.endswith(".tmp")] == []


RESHARD = """
import sys
from vlfilter.data.reshard import reshard
from vlfilter.data.shards import list_shards
from vlfilter.errors import VlfilterError
print("ready", flush=True)
sys.stdin.readline()
try:
    reshard(list_shards(sys.argv[1]), sys.argv[2], sys.argv[3], samples_per_shard=10, shards_per_part=2)
except VlfilterError as error:
    sys.exit(f"VlfilterError: {error}")
"""


def test_two_reshards_on_one_output_at_once(tmp_path: Path) -> None:
    """One may give up with a clear message; what lies there in the end, and after one more run, is the whole."""
    make_shards(tmp_path / "data", 6, 40)
    shards = list_shards(str(tmp_path / "data"))
    kept = write_npy(tmp_path / "kept.npy", [uid_of(f"{i:09d}") for i in range(0, 240, 2)])
    how = {"samples_per_shard": 10, "shards_per_part": 2}
    reshard(shards, kept, str(tmp_path / "alone"), **how)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RESHARD, str(tmp_path / "data"), kept, str(tmp_path / "both")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, env=environment, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=100)[1] for process in both]
    assert all(
        process.returncode == 0 or text.startswith("VlfilterError: ") for process, text in zip(both, told, strict=True)
    ), told
    reshard(shards, kept, str(tmp_path / "both"), **how)
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")


@pytest.mark.parametrize("moment", [0, 2_000_000_000, 4_000_000_000])
def test_no_decision_hangs_on_the_order_of_clocks(
    toy_run: Callable[[int, int], ScoreParams], tmp_path: Path, moment: int
) -> None:
    """Tables and receipts older than their inputs, or from the future, count like others: content decides."""
    params = toy_run(2, 3)
    for tar in (tmp_path / "data").iterdir():
        os.utime(tar, (moment + 7 * 10**6, moment + 7 * 10**6))
    score_all(params)
    step = str(tmp_path / "step.json")
    Path(step).write_text("{}")
    write_receipt(step, {"code": 1}, {"rows": 1})
    for path in [*Path(params.output).rglob("*"), *tmp_path.glob("step.json*")]:
        os.utime(path, (moment, moment))
    assert plan_run(params).work == []
    assert finished(step, {"code": 1}) == {"rows": 1}
    os.utime(tmp_path / "data" / "00001.tar", (moment + 1, moment + 1))  # another version, though an older one
    assert [work.shard.name for work in plan_run(params).work] == ["00001"]


def test_a_clock_that_runs_backwards(
    toy_run: Callable[[int, int], ScoreParams], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = toy_run(3, 4)
    alone = params.model_copy(update={"output": str(tmp_path / "alone")})
    score_all(alone)
    day = [2_000_000_000.0]

    def earlier() -> float:
        day[0] -= 86_400.0
        return day[0]

    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(time, "time_ns", lambda: int(earlier() * 1e9))
    assert len(score_all(params)) == 3
    assert score_all(params) == []
    assert tables(params.output) == tables(alone.output)
