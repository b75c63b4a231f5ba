"""The commands as a user types them, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers import make_shards, make_tar, pairs
from tests.toy import NAME

ROOT = Path(__file__).parent.parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vlfilter(prefect_api: str, tmp_path: Path) -> Run:
    """Runs `vlfilter …` in `tmp_path`, flows against the session's server."""
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from vlfilter.cli import main; main()", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**environment, **extra}, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Options that score four small shards with the toy."""
    make_shards(tmp_path / "data", 4, 10)
    (tmp_path / "toy.txt").write_text("1.0")
    return ["--shards", "data/{00000..00003}.tar", "--output", "out", "--scorer", NAME, "--model", f"{NAME}=toy.txt"]


def test_the_main_job(vlfilter: Run, data: list[str], tmp_path: Path) -> None:
    first = vlfilter("score", *data)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "4 shards, 4 to score" in first.stdout
    assert first.stderr == ""

    again = vlfilter("score", *data)
    assert again.returncode == 0
    assert "4 shards, 0 to score" in again.stdout

    status = vlfilter("status", "--output", "out")
    assert status.returncode == 0
    assert "40" in status.stdout

    chosen = vlfilter("select", "--scores", "out", "--where", "toy_score >= top(30%)", "--output", "kept.npy")
    assert chosen.returncode == 0, chosen.stderr
    assert "kept 12 of 40 rows" in chosen.stdout
    assert np.load(tmp_path / "kept.npy").shape == (12,)
    same = vlfilter("select", "--scores", "out", "--top", "30%", "--by", "toy_score", "--output", "same.npy")
    assert same.returncode == 0
    assert (tmp_path / "same.npy").read_bytes() == (tmp_path / "kept.npy").read_bytes()

    written = vlfilter("reshard", "--shards", "data", "--subset", "kept.npy", "--output", "new")
    assert written.returncode == 0, written.stderr
    rescored = vlfilter("score", "--shards", "new", "--output", "out2", *data[4:])
    assert rescored.returncode == 0, rescored.stderr
    assert sum(pq.read_metadata(p).num_rows for p in (tmp_path / "out2" / "toy").rglob("*.parquet")) == 12

    report = vlfilter("report", "--scores", "out", "--output", "report.html")
    assert report.returncode == 0, report.stderr
    assert "<html" in (tmp_path / "report.html").read_text()

    explained = vlfilter("explain", "000000017", "--scores", "out", "--where", "toy_score >= top(30%)")
    assert explained.returncode == 0, explained.stderr
    assert "data/00001.tar" in explained.stdout
    assert "toy_score" in explained.stdout


def test_a_failed_shard_ends_in_exit_code_1_with_its_reason(vlfilter: Run, data: list[str], tmp_path: Path) -> None:
    (tmp_path / "data" / "00002.tar").write_bytes(b"no tar at all" * 100)
    result = vlfilter("score", *data)
    assert result.returncode == 1
    assert "toy 00002: failed: " in result.stdout
    assert "00002.tar" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    status = vlfilter("status", "--output", "out")
    assert status.returncode == 1
    assert "toy 00002: failed: " in status.stdout

    make_tar(tmp_path / "data" / "00002.tar", pairs(10, 20))
    again = vlfilter("score", *data)
    assert again.returncode == 0
    assert "4 shards, 1 to score" in again.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--scorer", "unifilterr", "--model", "unifilterr=x"], "no scorer is called 'unifilterr'"),
        (["--scorer", "unifilter"], "scorer 'unifilter' needs a model: give --model unifilter="),
        (["--scorer", "unifilter", "--model", "unifilter=./empty"], "empty"),
        (["--scorer", "clip_score", "--model", "clip_score=./empty"], "empty"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--shards", "nowhere.tar"], "nowhere.tar"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--shards", "empty"], "empty"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--device", "tpu"], "--device"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--workers", "0"], "--workers"),
        (["--scorer", NAME, "--model", "toy.txt"], "--model 'toy.txt': write NAME=VALUE"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--option", "image_mode=pad"], "write NAME.KEY=VALUE"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--output", "toy.txt/out"], "not writable"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--output", ""], "--output"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--output", "s3://"], "--output"),
        (["--scorer", NAME, "--model", f"{NAME}=toy.txt", "--device", "cuda:99"], "cuda"),
    ],
)
def test_a_users_mistake_is_one_message(
    vlfilter: Run, data: list[str], tmp_path: Path, change: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = dict(zip(data[:4:2], data[1:4:2], strict=True)) | dict(zip(change[::2], change[1::2], strict=True))
    result = vlfilter("score", *(part for pair in given.items() for part in pair))
    assert result.returncode == 2, result.stdout
    assert message in result.stderr
    assert result.stderr.startswith("vlfilter: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_it_runs_with_no_server_at_all(vlfilter: Run, data: list[str], tmp_path: Path) -> None:
    result = vlfilter("score", *data, PREFECT_API_URL="", PREFECT_HOME=str(tmp_path / "prefect"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / "out" / "toy").glob("*.parquet"))) == 4


def test_help_is_quick_because_it_loads_nothing(vlfilter: Run) -> None:
    code = "import sys; from vlfilter.cli.app import app; print('torch' in sys.modules, 'prefect' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == ["False", "False"]
    assert "score" in vlfilter("--help").stdout


def test_a_server_that_does_not_answer_is_named(vlfilter: Run, data: list[str]) -> None:
    result = vlfilter("score", *data, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert result.returncode == 2
    assert "vlfilter: the Prefect server at http://127.0.0.1:9/api does not answer" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_in_a_terminal_stops_a_run_without_a_server(data: list[str], tmp_path: Path) -> None:
    """A terminal interrupts every process of the group; the server that the run has started must not die before it."""
    make_shards(tmp_path / "data", 4, 3000)
    log = tmp_path / "toy.log"
    command = [sys.executable, "-c", "from vlfilter.cli import main; main()", "score", *data, "--batch-tokens", "50"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOY_LOG": str(log), "PREFECT_HOME": str(tmp_path / "home")}
    environment.pop("PREFECT_API_URL", None)
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    while not (log.exists() and "scored" in log.read_text()):
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, out + err
    assert "the same command goes on" in out
    assert "Traceback" not in out + err


def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(
    data: list[str], prefect_api: str, vlfilter: Run, tmp_path: Path
) -> None:
    make_shards(tmp_path / "data", 4, 3000)
    log = tmp_path / "toy.log"
    command = [sys.executable, "-c", "from vlfilter.cli import main; main()", "score", *data, "--batch-tokens", "50"]
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PYTHONPATH": str(ROOT), "TOY_LOG": str(log)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (log.exists() and "scored" in log.read_text()):
        assert process.poll() is None, "it ended before it could be stopped"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "the same command goes on" in out
    assert "Traceback" not in out + err
    assert not list((tmp_path / "out").rglob("*.failed.json"))
    again = vlfilter("score", *data)
    assert again.returncode == 0, again.stdout
    assert sum(pq.read_metadata(p).num_rows for p in (tmp_path / "out" / "toy").glob("*.parquet")) == 12000
