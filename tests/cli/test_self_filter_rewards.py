"""`vlfilter self-filter image-reward` and `judge` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers import jpeg
from tests.llm.vendor import VendorServer
from tests.reward_models import fixture_folder
from vlfilter.cli.app import app
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.preprocess import preprocess


@pytest.fixture
def data(tmp_path: Path) -> Path:
    talk = [{"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"}]
    entries = [{"id": "a", "image": "a.jpg", "conversations": talk}, {"id": "b", "conversations": talk}]
    (tmp_path / "llava.json").write_text(json.dumps(entries))
    preprocess(str(tmp_path / "llava.json"), str(tmp_path / "data"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg())
    return tmp_path


def run(step: str, folder: Path, *more: str) -> Result:
    given = ["self-filter", step, "--data", str(folder / "data"), "--output", str(folder / step), *more]
    return CliRunner().invoke(app, given, catch_exceptions=False)


def column(folder: Path, name: str) -> list[float | None]:
    with open_parquet(str(folder / "00000.parquet")) as file:
        found: list[float | None] = file.read(columns=[name])[name].to_pylist()
    return found


def test_image_reward(data: Path) -> None:
    model = fixture_folder(data / "model")
    options = ("--images", str(data / "images"), "--model", str(model), "--device", "cpu")
    result = run("image-reward", data, *options)
    assert result.exit_code == 0, result.output
    assert "rows: 1 ok, 1 missing_image" in result.output
    first, second = column(data / "image-reward", "image_reward")
    assert first is not None
    assert second is None
    assert "wrote 0 files" in run("image-reward", data, *options).output


def test_the_judge_is_asked_once_a_text(data: Path, vendor: VendorServer) -> None:
    vendor.answer = lambda body: "8 out of 10"
    options = ("--base-url", vendor.openai_url, "--max-usd", "1")
    estimate = run("judge", data, *options, "--dry-run")
    assert "1 repeated, 1 to send" in estimate.output  # both rows have the same text
    assert not vendor.questions()
    result = run("judge", data, *options)
    assert result.exit_code == 0, result.output
    assert "rows: 2 ok" in result.output
    assert column(data / "judge", "judge_score") == [8, 8]
    assert len(vendor.questions()) == 1
    assert "wrote 1 files" in run("judge", data, *options, "--parser", "original").output
    assert column(data / "judge", "judge_score") == [10, 10]
    assert len(vendor.questions()) == 1
    assert (data / "judge-answers" / "ledger.sqlite").is_file()


def test_a_small_budget_is_told_in_the_dry_run_and_stops_the_run(data: Path, vendor: VendorServer) -> None:
    options = ("--base-url", vendor.openai_url, "--max-usd", "0.00001")
    assert "more than --max-usd 1e-05" in run("judge", data, *options, "--dry-run").output
    with pytest.raises(VlfilterError, match="budget is used up"):
        run("judge", data, *options)
    assert not vendor.questions()


def test_responses_are_read_without_a_key(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (data / "responses").mkdir()
    (data / "responses" / "1.json").write_text('{"choices": [{"message": {"content": "7\\nbecause"}}]}')
    result = run("judge", data, "--responses", str(data / "responses"))
    assert "1: there is no response" in result.output
    assert column(data / "judge", "judge_score") == [None, 7]
