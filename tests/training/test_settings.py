"""The recipes are the published ones, and mistakes are told in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from vlfilter.errors import VlfilterError
from vlfilter.training import plan
from vlfilter.training.plan import Plan, make_plan
from vlfilter.training.settings import TrainSettings, train_settings
from vlfilter.training.trainer import deepspeed_config, training_arguments

OWN = {"data": "rows.json", "images": "images", "output": "out"}
_LLAVA_7B: dict[str, Any] = {
    "language_model": "lmsys/vicuna-7b-v1.3", "vision_tower": "openai/clip-vit-large-patch14", "select_layer": -2,
    "select_feature": "patch", "projector_kind": "linear", "template": "vicuna_v1", "epochs": 3, "per_device_batch": 16,
    "batch_size": 128, "learning_rate": 2e-5, "weight_decay": 0.0, "warmup_ratio": 0.03, "schedule": "cosine",
    "max_grad_norm": 0.0, "max_length": 2048, "zero": "3", "dtype": "auto", "tf32": True,
    "group_by_modality_length": False, "image_mode": "processor", "data_workers": 4, "save_total_limit": 1, "seed": 42,
    "trainable": "language+projector", "gradient_checkpointing": True,
}  # fmt: skip
# `specs/mlm_filter.md`, "Training": what the published scripts pass, for eight GPUs
PUBLISHED: dict[str, dict[str, Any]] = {
    "mlm_filter_13b": {
        "template": "vicuna_v1", "epochs": 2, "per_device_batch": 16, "batch_size": 128, "learning_rate": 2e-5,
        "weight_decay": 0.0, "warmup_ratio": 0.03, "schedule": "cosine", "max_length": 2048, "zero": "3",
        "image_mode": "pad", "group_by_modality_length": True, "gradient_checkpointing": True, "save_steps": 50000,
        "trainable": "language+projector", "select_layer": -2, "projector_kind": "mlp2x_gelu", "data_workers": 4,
    },
    "mlm_filter_13b_projector": {
        "template": "plain", "epochs": 1, "per_device_batch": 32, "batch_size": 256, "learning_rate": 1e-3,
        "warmup_ratio": 0.03, "max_length": 2048, "zero": "2", "trainable": "projector",
    },
    "mlm_filter_qwen2.5_1.5b": {
        "template": "qwen_instruct", "epochs": 1, "per_device_batch": 4, "batch_size": 128, "learning_rate": 2e-5,
        "weight_decay": 0.0, "warmup_ratio": 0.03, "max_length": 4096, "zero": "3", "image_mode": "pad",
        "group_by_modality_length": True, "save_steps": 1000, "save_total_limit": 1, "select_layer": -1,
        "projector_kind": "aapool_mlp", "image_tokens": 144,
    },
    "mlm_filter_qwen2.5_1.5b_projector": {
        "template": "plain", "epochs": 1, "per_device_batch": 64, "batch_size": 512, "learning_rate": 1e-3,
        "warmup_ratio": 0.03, "max_length": 2048, "zero": "2", "trainable": "projector",
    },
    # `specs/self_filter.md`, 1.4 and 1.6
    "self_filter_llava_7b": _LLAVA_7B | {
        "objective": "self_filter", "sample_loss": "token_sum", "softmax_scope": "local", "score_dtype": "auto",
        "score_learning_rate": None,
    },
    "llava_7b_instruct": _LLAVA_7B | {"objective": "conversation"},
    "llava_1.5_7b_instruct": {
        "language_model": "lmsys/vicuna-7b-v1.5", "vision_tower": "openai/clip-vit-large-patch14-336",
        "template": "vicuna_v1", "epochs": 1, "per_device_batch": 16, "batch_size": 128, "learning_rate": 2e-5,
        "weight_decay": 0.0, "warmup_ratio": 0.03, "schedule": "cosine", "max_length": 2048, "zero": "3",
        "image_mode": "pad", "group_by_modality_length": True, "select_layer": -2, "projector_kind": "mlp2x_gelu",
    },
}  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_recipes_are_the_published_ones(recipe: str) -> None:
    own = {**OWN, "features": "f.npz"} if recipe.startswith("self_filter") else OWN
    settings = train_settings({**own, "projector": "p"}, recipe)
    assert {name: getattr(settings, name) for name in PUBLISHED[recipe]} == PUBLISHED[recipe]


@pytest.mark.parametrize("recipe", [*PUBLISHED, "mlm_filter_tiny", "self_filter_tiny"])
def test_settings_survive_json(recipe: str) -> None:
    own = {**OWN, "features": "f.npz"} if recipe.startswith("self_filter") else OWN
    settings = train_settings({**own, "model": "m"}, recipe)
    assert TrainSettings.model_validate(json.loads(settings.model_dump_json())) == settings


@pytest.mark.parametrize(
    ("values", "recipe", "message"),
    [
        ({}, "mlm_filter_7b", "no recipe is called 'mlm_filter_7b'. There are: mlm_filter_13b"),
        ({}, None, "give model, or language_model and vision_tower"),
        ({}, "mlm_filter_qwen2.5_1.5b", "give the projector that was pretrained"),
        ({"model": "m", "projector": "p"}, None, "do not give projector beside it"),
        ({"model": "m", "output": "s3://bucket/out"}, None, "output must be a local folder"),
        ({"model": "m", "zero": "4"}, None, "zero: Input should be"),
        ({"model": "m", "lr": 1.0}, None, "lr: Extra inputs"),
        ({"model": "m", "learning_rate": -1}, None, "learning_rate: Input should be greater than 0"),
    ],
)
def test_mistakes_are_told(values: dict[str, Any], recipe: str | None, message: str) -> None:
    with pytest.raises(VlfilterError) as raised:
        train_settings({**OWN, **values}, recipe)
    assert message in str(raised.value)


def test_zero_may_be_a_number() -> None:
    assert train_settings({**OWN, "model": "m", "zero": 3}).zero == "3"


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (8, Plan("cuda", "bfloat16", 8, 4, 4)),
        (1, Plan("cuda", "bfloat16", 1, 4, 32)),
        (0, Plan("cpu", "float32", 1, 4, 32)),
    ],
)
def test_the_batch_stays_whatever_the_machine(gpus: int, expected: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert plan.make_plan(train_settings({**OWN, "model": "m"}, "mlm_filter_qwen2.5_1.5b")) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 10, "processes": 3}, "batch_size 10 is not a multiple of 3 processes"),
        ({"batch_size": 12, "processes": 2, "per_device_batch": 4}, "not a multiple"),
        ({"device": "cuda"}, "need as many GPUs; there are 0"),
        ({"dtype": "float16"}, "float16 trains on CUDA only"),
    ],
)
def test_plans_that_do_not_work_out(values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VlfilterError, match=message):
        make_plan(train_settings({**OWN, "model": "m", "device": "cpu", **values}))


@pytest.fixture
def _fresh_accelerate() -> Iterator[None]:
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_fresh_accelerate")
def test_the_trainer_is_told_the_recipe() -> None:
    settings = train_settings({**OWN, "model": "m", "zero": "none"}, "mlm_filter_13b")
    arguments = training_arguments(settings, Plan("cpu", "float32", 1, 16, 8))
    assert arguments.num_train_epochs == 2
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 128
    assert arguments.learning_rate == 2e-5
    assert arguments.lr_scheduler_type == "cosine"
    assert arguments.get_warmup_steps(781) == 24  # 3 % of the published run's steps, rounded up
    assert arguments.optim == "adamw_torch"
    assert arguments.max_grad_norm == 1.0
    unclipped = train_settings({**OWN, "model": "m", "zero": "none", "features": "f.npz"}, "self_filter_llava_7b")
    assert training_arguments(unclipped, Plan("cpu", "float32", 1, 16, 8)).max_grad_norm == 0.0


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_leaves_the_optimizer_to_the_trainer(stage: int) -> None:
    config = deepspeed_config(str(stage), "cuda")
    assert config is not None
    assert config["zero_optimization"]["stage"] == stage
    assert config["zero_optimization"]["overlap_comm"]
    assert "optimizer" not in config
    assert "scheduler" not in config
