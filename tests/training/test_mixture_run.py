"""A real training on a mixture in one process, with adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.training import mixed, small
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm
from vlfilter.training import launch
from vlfilter.training.launch import FinetuneResult, finetune
from vlfilter.training.lora_files import merge_adapter
from vlfilter.training.mixture import read_mixture, with_round
from vlfilter.training.mixture_draws import draw_table
from vlfilter.training.run_folder import read_metrics
from vlfilter.training.settings import TrainSettings, train_settings


class Trained(NamedTuple):
    folder: Path
    settings: TrainSettings
    result: FinetuneResult


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("mixture")
    told = mixed.mixture(folder)
    rows = [*mixed.questions(9), {"question": "torn"}]
    rows.append(rows[0] | {"question_id": "gone", "image_path": "part/gone.jpg"})
    rows.append(rows[0] | {"question_id": "empty", "choices": ["", "b", "c"]})
    (folder / "vqa.json").write_text(json.dumps(rows))
    settings = mixed.settings(folder / "out", told, small.checkpoint(folder / "model"), bad_rows=0.2, weight_decay=0.05)
    return Trained(folder, settings, finetune(settings))


def test_every_step_tells_its_samples_by_data_set(trained: Trained) -> None:
    rows = read_metrics(trained.result.metrics)
    table = draw_table([3, 3.0, 2], 42, 8, 2)  # nine usable questions, by their root
    expected = [
        {name: 4 * int((step == i).sum()) for i, name in enumerate(("chat", "vqa", "captions"))} for step in table
    ]
    assert [row["datasets"] for row in rows] == expected
    assert all(row["samples"] == 8 for row in rows)
    rates = [row["learning_rate"] for row in rows]
    assert rates[:3] == pytest.approx([1e-6, (1e-6 + 2e-3) / 2, (2e-3 - 1e-5) * 0.5 * (1 + 0.5**0.5) + 1e-5])
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_report_tells_of_each_data_set(trained: Trained) -> None:
    report = json.loads((trained.folder / "out" / "data_report.json").read_text())["data"]
    assert list(report) == ["chat", "vqa", "captions"]
    assert report["vqa"]["unreadable"] == ["row 9 (without id): it has no choices"]
    assert report["vqa"]["filtered"] == {"its correct choice is empty": 1}
    (bad,) = report["vqa"]["report"]["bad"]
    assert (bad["id"], bad["reason"]) == ("gone", "image 'part/gone.jpg' is missing")
    assert (trained.result.rows, trained.result.skipped, trained.result.steps) == (16 + 12 + 8, 2, 8)


def test_only_the_adapted_layers_and_the_projector_have_moved(trained: Trained) -> None:
    before = load_vlm(str(trained.folder / "model"), head="lm").model.state_dict()
    after = load_vlm(str(trained.result.model), head="lm").model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    adapted = {
        name for name in before if name.endswith(("q_proj.weight", "k_proj.weight")) and name.startswith("body.")
    }
    assert moved == adapted | {name for name in before if name.startswith("projector.")}


def test_the_adapters_lie_beside_and_are_those_in_the_model(trained: Trained) -> None:
    merge_adapter(
        str(trained.result.model / "adapter"),
        str(trained.folder / "model"),
        str(trained.folder / "whole"),
        torch.float32,
    )
    ours, whole = (
        load_file(trained.folder / "whole" / "model.safetensors"),
        load_file(trained.result.model / "model.safetensors"),
    )
    assert all(torch.equal(ours[name], whole[name]) for name in whole if "mm_projector" not in name)


def test_another_round_is_another_training(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_train", lambda *_: pytest.fail("it trains again"))
    assert not finetune(trained.settings).fresh
    images = str(trained.folder / "images")
    more = str(trained.folder / "more.yaml")
    with_round(str(trained.settings.mixture), "round1", str(trained.folder / "vqa.json"), images, more)
    with pytest.raises(VlfilterError, match="finished model of other settings: mixture round1 changed"):
        finetune(trained.settings.model_copy(update={"mixture": more}))
    assert len(read_mixture(more).datasets) == 4


OWN: dict[str, Any] = {"output": "out", "model": "m", "iters_per_epoch": 3}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give data and images, or a mixture"),
        ({"mixture": "m.yaml", "images": "i"}, "do not give images beside it"),
        ({"mixture": "m.yaml", "iters_per_epoch": None}, "give iters_per_epoch"),
        ({"data": "d", "images": "i"}, "iters_per_epoch is for a mixture"),
        ({"mixture": "m.yaml", "group_by_modality_length": True}, "group_by_modality_length must be false"),
        ({"mixture": "m.yaml", "objective": "classifier", "validation": "v"}, "for the objective conversation"),
        ({"mixture": "m.yaml", "lora_r": 4}, "for trainable lora only: lora_r"),
        ({"mixture": "m.yaml", "warmup_steps": 4}, "for the schedule warmup_cosine only: warmup_steps"),
        ({"data": "d", "images": "i", "iters_per_epoch": None, "draws": 2}, "for a mixture only: draws"),
        (
            {"mixture": "m.yaml", "schedule": "warmup_cosine", "min_learning_rate": 1.0},
            "min_learning_rate 1.0 is above",
        ),
        (
            {"mixture": "m.yaml", "schedule": "warmup_cosine", "warmup_steps": 4},
            "warmup_steps 4 are more than the 3 steps of an epoch",
        ),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfilterError) as raised:
        train_settings({**OWN, **values})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("values", "entry", "message"),
    [
        ({"batch_size": 6, "draws": 4}, {}, "batch_size 6 is not a multiple of 4 draws"),
        ({}, {"batch_size": 3}, "chat: a batch_size of its own is for draws that one process handles at once"),
        ({"lora_targets": ("query",)}, {}, "lora_targets query name no layer"),
        ({"mixture": "none.yaml"}, {}, "there is no mixture"),
        ({"bad_rows": 0.0}, {"data": "vqa.json"}, "data set chat: 9 of 9 rows cannot be used"),
    ],
)
def test_mistakes_are_told_before_any_process_starts(
    tmp_path: Path, values: dict[str, Any], entry: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    monkeypatch.setattr(launch, "_train", lambda *_: pytest.fail("it trains"))
    told = mixed.mixture(tmp_path)
    content = yaml.safe_load(told.read_text())
    content["datasets"][0] |= entry
    told.write_text(yaml.safe_dump(content))
    with pytest.raises(VlfilterError) as raised:
        finetune(mixed.settings(tmp_path / "out", told, small.checkpoint(tmp_path / "model"), **values))
    assert message in str(raised.value)


def test_the_recipe_is_the_published_one() -> None:
    """As `train_configs` of MLLM-DataEngine 1.0 has it, for four GPUs."""
    from tests.methods.data_engine.fixtures import copied

    for recipe, kind in [("data_engine_minigpt4_7b", "7b"), ("data_engine_minigpt4_13b", "13b")]:
        name = f"ccsbualign_aokvqa/vicuna-{kind}/QMA/minigpt4_{kind}_stage2_finetune_aokvqa_round1_round2.yaml"
        published = copied("train_mixtures.json")[name]
        run, lora = published["run"], published["model"]["llama_lora"]
        ours = train_settings({"mixture": "m.yaml", "output": "o"}, recipe)
        assert (ours.learning_rate, ours.min_learning_rate, ours.warmup_learning_rate, ours.warmup_steps) == (
            run["init_lr"], run["min_lr"], run["warmup_lr"], run["warmup_steps"],
        )  # fmt: skip
        assert (ours.epochs, ours.iters_per_epoch, ours.weight_decay) == (
            run["max_epoch"], run["iters_per_epoch"], run["weight_decay"],
        )  # fmt: skip
        assert (ours.draws, ours.batch_size, ours.per_device_batch) == (
            4,
            4 * run["batch_size_train"],
            run["batch_size_train"],
        )
        assert (ours.lora_r, ours.lora_alpha, ours.lora_dropout) == (
            lora["lora_r"],
            lora["lora_alpha"],
            lora["lora_dropout"],
        )
        assert ours.trainable == "lora", "the projector is frozen"
        assert ours.seed == run["seed"]
