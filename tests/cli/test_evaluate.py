"""`vlfilter evaluate` in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.evaluation.published_files import fixture, published
from tests.evaluation.small_model import save_model
from tests.helpers import jpeg
from tests.llm.vendor import VendorServer
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks import BENCHMARKS


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def given(name: str, entries: list[Any], folder: Path) -> list[object]:
    (folder / "given.json").write_text(json.dumps(entries))
    data = published(name, folder / "data")
    return [name, "--data", data, "--answers", folder / "given.json", "--output", folder / "out"]


def test_answers_that_exist_are_scored(tmp_path: Path) -> None:
    result = run(*given("okvqa", fixture("okvqa")["result_file"], tmp_path))
    assert result.exit_code == 0, result.output
    assert "OK-VQA: accuracy 66.67 %, 33.33 % as published, 66.67 % by lavis (3 of 3 answered)" in result.stdout
    assert "MiniGPT4-v2 + DataEngine, round 3" in result.stdout
    assert "56.87" in result.stdout
    told = json.loads((tmp_path / "out" / "okvqa" / "scores.json").read_text())
    assert told["scores"][0]["compat"] == 33.33


def test_a_file_of_another_length_is_one_message(tmp_path: Path) -> None:
    result = run(*given("vizwiz", [{"answer": "x"}], tmp_path))
    assert isinstance(result.exception, VlfilterError)
    assert "holds 1 answers to 6 questions" in str(result.exception)
    allowed = run(*given("vizwiz", [{"answer": "soup"}], tmp_path), "--allow-missing")
    assert allowed.exit_code == 0, allowed.output
    assert "1 ok, 5 no_answer" in allowed.stdout


def test_a_model_of_the_house(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(4):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(jpeg(number))
    data = published("vsr", tmp_path / "data")
    arguments = ["vsr", "--data", data, "--images", tmp_path / "images", "--output", tmp_path / "out"]
    result = run(*arguments, "--model", save_model(tmp_path / "model"), "--device", "cpu", "--max-tokens", 3)
    assert result.exit_code == 0, result.output
    assert "rows: 4 ok" in result.stdout
    assert len(json.loads((tmp_path / "out" / "vsr" / "vsr.json").read_text())) == 4


def test_a_server(tmp_path: Path, vendor: VendorServer) -> None:
    vendor.answer = lambda body: "B"
    data = published("mmbench", tmp_path)
    arguments = ["mmbench", "--data", data, "--output", tmp_path / "out", "--model", "openai:tiny", "--plain-prompts"]
    result = run(*arguments, "--base-url", vendor.openai_url)
    assert result.exit_code == 0, result.output
    assert "MMBench (dev): accuracy 25.00 % (4 of 4 answered); each rotation for itself 50.00 %" in result.stdout
    assert len(vendor.questions()) == 6


def test_several_from_a_file(tmp_path: Path, prefect_api: str) -> None:
    (tmp_path / "okvqa.json").write_text(json.dumps(fixture("okvqa")["result_file"]))
    step = {"benchmark": "okvqa", "data": published("okvqa", tmp_path), "answers": str(tmp_path / "okvqa.json")}
    (tmp_path / "run.yaml").write_text(json.dumps({"output": str(tmp_path / "out"), "benchmarks": [step]}))
    result = run("run", "--config", tmp_path / "run.yaml")
    assert result.exit_code == 0, result.output
    assert "OK-VQA: accuracy 66.67 %" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vsr", "--data", "x", "--output", "y"], "neither a model nor answers are given for vsr"),
        (["vsr", "--data", "/nowhere", "--output", "y", "--answers", "z"], "there is no VSR statements at /nowhere"),
    ],
)
def test_what_is_missing_is_said(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, VlfilterError)
    assert message in str(result.exception)


def test_every_benchmark_is_a_command() -> None:
    result = run("--help")
    assert all(name in result.stdout for name in (*BENCHMARKS, "run"))
