from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import make_tar, pair, pairs
from tests.toy import NAME
from vlfilter.scoring.params import ScoreParams

ROOT = Path(__file__).parent.parent.parent
Trace = Callable[[], list[str]]


@pytest.fixture
def params(toy_run: Callable[[int, int], ScoreParams]) -> ScoreParams:
    return toy_run(6, 4)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """What the toy scorer did since the last call."""
    path = tmp_path / "toy.log"
    monkeypatch.setenv("TOY_LOG", str(path))

    def read() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return read


def run(params: ScoreParams):  # type: ignore[no-untyped-def]
    from flows.score_shards import score_shards

    return score_shards(params, return_state=True)


def tables(folder: Path) -> dict[str, pa.Table]:
    return {p.name: pq.read_table(p).replace_schema_metadata(None) for p in sorted(folder.glob("toy/*.parquet"))}


@pytest.mark.usefixtures("prefect_api")
def test_a_second_run_makes_no_forward_pass(params: ScoreParams, trace: Trace, tmp_path: Path) -> None:
    state = run(params)
    assert state.is_completed(), state.message
    assert state.message == "6 shards scored. toy: 24 samples, 24 with a score"
    assert sum(json.loads(line)["scored"] for line in trace() if line != "load") == 24
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "toy").glob("*.parquet")}

    assert run(params).is_completed()
    assert trace() == []
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "toy").glob("*.parquet")} == before


@pytest.mark.usefixtures("prefect_api")
def test_groups_are_their_own_runs_and_the_model_is_loaded_once(params: ScoreParams, trace: Trace) -> None:
    (Path(params.model[NAME])).write_text("3.5")
    state = run(params.model_copy(update={"group_size": 2}))
    assert state.is_completed()
    assert trace().count("load") == 1


@pytest.mark.usefixtures("prefect_api")
def test_a_failed_shard_fails_alone_and_only_it_runs_again(params: ScoreParams, trace: Trace, tmp_path: Path) -> None:
    broken = tmp_path / "data" / "00003.tar"
    broken.write_bytes(b"this is no tar, " * 100)
    state = run(params)
    assert state.is_failed()
    assert state.message == "1 of 6 shards have no score table: 00003"
    assert len(tables(tmp_path / "out")) == 5
    reason = json.loads((tmp_path / "out" / "toy" / "00003.failed.json").read_text())["reason"]
    assert "00003.tar" in reason
    assert "tar" in reason
    trace()

    make_tar(broken, pairs(4, 12))
    assert run(params).is_completed()
    assert sum(json.loads(line)["scored"] for line in trace() if line != "load") == 4
    assert not (tmp_path / "out" / "toy" / "00003.failed.json").exists()


def test_artifacts_show_progress_shards_and_histogram(params: ScoreParams, prefect_api: str) -> None:
    run(params)
    latest = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).raise_for_status().json()
    found = {artifact["key"]: artifact["data"] for artifact in latest}
    assert set(found) >= {"score-shards-progress", "score-shards-shards", "score-shards-histogram"}
    assert float(found["score-shards-progress"]) == 100
    rows = json.loads(found["score-shards-shards"])
    assert [row["shard"] for row in rows] == [f"{i:05d}" for i in range(6)]
    assert found["score-shards-histogram"].startswith("data:image/png;base64,")


def test_the_parameters_make_a_form(params: ScoreParams) -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.score_shards import score_shards

    schema = parameter_schema(score_shards)
    form = schema.definitions["ScoreParams"]
    assert form["required"] == ["shards", "output", "scorer"]
    for field in form["properties"].values():  # a nested form carries its help itself
        nested = schema.definitions.get(field.get("$ref", "").rpartition("/")[2], {})
        assert field.get("description") or nested.get("description")
    assert form["properties"]["dtype"]["enum"] == ["auto", "float32", "bfloat16", "float16"]


RUN = """
import sys
from flows.score_shards import score_shards
from vlfilter.scoring.params import ScoreParams
state = score_shards(ScoreParams.model_validate_json(sys.argv[1]), return_state=True)
sys.exit(not state.is_completed())
"""


def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    params: ScoreParams, prefect_api: str, tmp_path: Path
) -> None:
    make_tar(tmp_path / "data" / "00003.tar", [("k", pair("k", image=b"broken")), *pairs(40, 100)])
    log = tmp_path / "toy.log"
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "TOY_LOG": str(log)}

    def command(output: str) -> list[str]:
        given = params.model_copy(update={"output": str(tmp_path / output), "batch_tokens": 60, "shards_in_flight": 1})
        return [sys.executable, "-c", RUN, given.model_dump_json()]

    def written() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("toy/*.parquet")}

    hanging = {**environment, "TOY_HANG_AT": "a picture called 000000130"}
    process = subprocess.Popen(command("out"), cwd=ROOT, env=hanging)
    while not (log.exists() and "hanging" in log.read_text()):
        assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = written()
    assert set(first) == {"00000.parquet", "00001.parquet", "00002.parquet"}

    subprocess.run(command("out"), cwd=ROOT, env=environment, check=True)
    assert {name: written()[name] for name in first} == first
    subprocess.run(command("undisturbed"), cwd=ROOT, env=environment, check=True)
    assert tables(tmp_path / "out") == tables(tmp_path / "undisturbed")
    assert len(tables(tmp_path / "out")) == 6
