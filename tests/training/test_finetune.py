"""A real training in one process, from files to a model that scores."""

from __future__ import annotations

import fcntl
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import picture
from tests.training import small
from vlfilter.data.samples import ImageText
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.training import launch
from vlfilter.training.launch import FinetuneResult, finetune
from vlfilter.training.run_folder import read_metrics
from vlfilter.training.settings import TrainSettings, train_settings


class Trained(NamedTuple):
    settings: TrainSettings
    result: FinetuneResult


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("train")
    told = small.data(folder)
    rows = json.loads(Path(told["data"]).read_text())
    rows.append({"id": "lost", "image": "part/lost.jpg", "conversations": rows[0]["conversations"]})
    Path(told["data"]).write_text(json.dumps([*rows, {"id": "torn"}]))
    settings = small.settings(folder / "out", told, small.checkpoint(folder / "model"), bad_rows=0.1)
    return Trained(settings, finetune(settings))


def test_the_loss_falls_and_every_step_is_in_the_curve(trained: Trained) -> None:
    rows = read_metrics(trained.result.metrics)
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]
    assert all(row["samples"] == 8 and row["tokens"] > 8 * 36 * 0.5 for row in rows)
    # three per cent of nine steps round up to one of warm-up, then a half cosine to zero
    rates = [0.0] + [2e-3 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert trained.result.fresh
    assert (trained.result.rows, trained.result.skipped, trained.result.steps) == (26, 2, 9)


def test_skipped_rows_are_told_by_id(trained: Trained) -> None:
    report = (Path(trained.settings.output) / "data_report.json").read_text()
    assert "image 'part/lost.jpg' is missing" in report
    assert "row 25 (torn): it has no conversations" in report
    assert "row-3" not in report


def test_what_comes_out_scores_at_once(trained: Trained) -> None:
    loaded = load_vlm(str(trained.result.model), head="lm")
    assert loaded.config.max_length == 512
    assert loaded.config.published["image_aspect_ratio"] == "pad"
    options = {"metric": "image_text_matching", "image_mode": "pad", "caption_max_tokens": 32}
    scorer = MlmFilter(ScorerSettings(model=str(trained.result.model), device="cpu", dtype="float32", options=options))
    scorer.load()
    payload = scorer.prepare(ImageText(picture(1), "picture number 1"))
    (score,) = scorer.score([payload])["image_text_matching_score"]
    assert 0 <= score <= 100


def test_checkpoints_are_gone_when_the_model_is_there(trained: Trained) -> None:
    names = {path.name for path in Path(trained.settings.output).iterdir()}
    expected = {".lock", "model", "metrics.jsonl", "train.log", "data_report.json", "job.json", "finetune.json"}
    assert names == expected


def test_a_finished_run_is_returned_at_once(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_train", lambda *_: pytest.fail("it trains again"))
    assert finetune(trained.settings) == replace(trained.result, fresh=False)
    elsewhere = trained.settings.model_copy(update={"per_device_batch": 4, "save_steps": 7})
    assert not finetune(elsewhere).fresh, "how it is computed does not make another model"


def test_another_training_is_refused_in_the_same_folder(trained: Trained) -> None:
    changed = trained.settings.model_copy(update={"learning_rate": 1e-3, "template": "llava_v1"})
    with pytest.raises(VlfilterError, match=r"finished model of other settings: learning_rate, template changed"):
        finetune(changed)


def test_two_runs_never_share_a_folder(trained: Trained) -> None:
    lock = Path(trained.settings.output) / ".lock"
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(VlfilterError, match="another run trains"):
            finetune(trained.settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": "nowhere"}, "18 of 24 rows cannot be used"),
        ({"data": "nowhere.json"}, "nowhere.json"),
        ({"model": "nowhere"}, "'nowhere' does not exist"),
        ({"template": "qwen_instruct"}, "no control token of this tokenizer"),
        ({"report_to": "wandb"}, "wandb, which is not installed"),
    ],
)
def test_mistakes_are_told_before_any_process_starts(
    tmp_path: Path, values: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_train", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda _: None)
    told = {**small.data(tmp_path), "output": str(tmp_path / "out"), "model": str(small.checkpoint(tmp_path / "m"))}
    for _ in range(2):  # a second call must not find the first one's report good enough
        with pytest.raises(VlfilterError) as raised:
            finetune(train_settings({**told, **values}, "mlm_filter_tiny"))
        assert message in str(raised.value)
