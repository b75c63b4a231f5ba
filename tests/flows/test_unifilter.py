"""From images to a subset: a flow on a real server, a teacher behind the real client, a classifier really trained."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.states import State
from typer.testing import CliRunner

from tasks.unifilter_artifacts import validation_text
from tests.helpers import document, jpeg, make_tar, pairs
from tests.llm.vendor import VendorServer
from tests.methods.unifilter.teacher import teacher
from vlfilter.cli.app import app
from vlfilter.data.quality_rows import read_quality_rows
from vlfilter.errors import VlfilterError
from vlfilter.methods.unifilter.params import GPU_STEPS, UniFilterParams, parse_params

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"


def run(params: dict[str, Any]) -> State[Any]:
    from flows.unifilter import unifilter

    return unifilter(parse_params(params, "test"), return_state=True)


@pytest.fixture
def work(tmp_path: Path, vendor: VendorServer) -> dict[str, Any]:
    """24 pairs, 12 documents, and the parameters that have a teacher write about them."""
    vendor.answer = teacher()
    make_tar(tmp_path / "pairs" / "0.tar", pairs(24))
    made = []
    for i in range(12):
        images = [jpeg(1000 + 10 * i + j, (64, 48)) for j in range(1 + i % 3)]
        slots: list[bytes | None] = [None, *(slot for image in images for slot in (image, None))]
        made.append((f"d{i}", document([None if slot else "words" for slot in slots], slots)))
    make_tar(tmp_path / "documents.tar", made)
    step = {
        "images": str(tmp_path / "pairs"), "documents_from": str(tmp_path / "documents.tar"), "captions": 20,
        "documents": 12, "validation": 0.3, "concurrency": 4, "teacher": "openai:gpt-4o",
        "base_url": vendor.base_url("openai"), "max_usd": 50,
    }  # fmt: skip
    return {"output": str(tmp_path / "out"), "synthesize": step}


@pytest.mark.usefixtures("prefect_api")
def test_synthetic_data_once(work: dict[str, Any], vendor: VendorServer, prefect_api: str) -> None:
    state = run(work)
    assert state.is_completed(), state.message
    asked = len(vendor.questions())
    assert asked == 32
    rows, bad = read_quality_rows(f"{work['output']}/train.json")
    counts = Counter((row.kind, row.label) for row in rows)
    assert bad == []
    assert all(counts[kind, level] == counts[kind, 0] for kind in ("caption", "interleaved") for level in range(4))
    again = run(work)
    assert again.is_completed()
    assert len(vendor.questions()) == asked
    assert "unifilter-levels" in _artifacts(prefect_api)


@pytest.mark.usefixtures("prefect_api")
def test_a_classifier_from_elsewhere_scores_and_selects(tmp_path: Path) -> None:
    """The last two steps alone, twice: finished tables and an unchanged subset are left as they are."""
    params = {
        "output": str(tmp_path / "out"),
        "score": {"shards": str(FIXTURE / "00000000.tar"), "model": str(FIXTURE), "device": "cpu"},
        "select": {"fraction": 0.4, "output": str(tmp_path / "kept.txt")},
    }
    state = run(params)
    assert state.is_completed(), state.message
    rows = str(state.message).splitlines()[-1]
    assert rows.startswith(f"{len((tmp_path / 'kept.txt').read_text().split())} of ")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".txt", ".parquet")}
    assert run(params).message == state.message
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    by_level = {"select": {"level": 0, "scores": f"{params['output']}/scores", "output": str(tmp_path / "all.txt")}}
    assert run({"output": params["output"], **by_level}).is_completed()

    (tmp_path / "broken.tar").write_bytes(b"no tar" * 1000)
    broken = {**params, "score": {**params["score"], "shards": str(tmp_path / "broken.tar")}}
    failed = run({**broken, "output": str(tmp_path / "other")})
    assert failed.is_failed()
    assert "1 of 1 shards have no score table" in str(failed.message)


@pytest.mark.usefixtures("prefect_api")
def test_nothing_is_paid_for_when_a_later_step_cannot_run(work: dict[str, Any], vendor: VendorServer) -> None:
    state = run({**work, "score": {"shards": "nowhere/*.tar", "model": str(FIXTURE)}})
    assert state.is_failed()
    assert "nowhere" in str(state.message)
    assert vendor.questions() == []


def _parts(folder: Path) -> dict[str, Any]:
    """A language model whose tokenizer has no bos, and a tower, as published, and what training is told of them."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

    from tests.models.hf import tokenizer

    text = tokenizer(("<|endoftext|>", "<|im_end|>"), bos=False).hf
    text.bos_token = None
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    named = text.convert_tokens_to_ids("<|endoftext|>")
    config = Qwen2Config(**size, vocab_size=1024, num_key_value_heads=2, bos_token_id=named, tie_word_embeddings=True)
    Qwen2ForCausalLM(config).save_pretrained(folder / "language")
    text.save_pretrained(folder / "language")
    SiglipVisionModel(SiglipVisionConfig(**size, image_size=24, patch_size=4)).save_pretrained(folder / "tower")
    return {
        "language_model": str(folder / "language"), "vision_tower": str(folder / "tower"), "max_length": 2048,
        "projector_kind": "aapool_mlp", "image_tokens": 4, "select_layer": -1,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_from_images_to_a_subset(
    work: dict[str, Any], vendor: VendorServer, prefect_api: str, tmp_path: Path
) -> None:
    parts = _parts(tmp_path)
    (tmp_path / "captions").mkdir()
    talk = []
    for i in range(16):
        (tmp_path / "captions" / f"{i}.jpg").write_bytes(jpeg(i))
        said = [{"from": "human", "value": "Describe it.\n<image>"}, {"from": "gpt", "value": f"picture number {i}"}]
        talk.append({"id": str(i), "image": f"{i}.jpg", "conversations": said})
    (tmp_path / "captions.json").write_text(json.dumps(talk))
    params = {
        **work,
        "pretrain": {"data": str(tmp_path / "captions.json"), "images": str(tmp_path / "captions"),
                     "preset": "unifilter_tiny_projector", "settings": parts},
        "train": {"preset": "unifilter_tiny", "settings": {**parts, "epochs": 2, "labels": 4}},
        "score": {"shards": str(tmp_path / "pairs"), "device": "cpu"},
        "select": {"recipe": "datacomp_unifilter_top50"},
    }  # fmt: skip
    state = run(params)
    assert state.is_completed(), state.message
    out = tmp_path / "out"
    assert str(state.message).splitlines()[-1] == f"13 of 24 samples in {out / 'kept.npy'}"
    config = json.loads((out / "train" / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlavaQwenClassifier"]
    assert config["pad_token_id"] not in (None, config["bos_token_id"], config["eos_token_id"])
    job = json.loads((out / "train" / "job.json").read_text())
    assert job["settings"]["projector"] == str(out / "pretrain" / "model")

    found = _artifacts(prefect_api)
    for stage in ("pretrain", "train"):
        assert found[f"unifilter-{stage}-loss"].startswith("data:image/png;base64,")
    assert "| labelled ↓ judged → | easy negative |" in found["unifilter-confusion"]
    assert "kept 13 of 24 rows" in found["unifilter-selection"]

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".safetensors", ".parquet")}
    again = run(params)
    assert again.is_completed()
    assert str(again.message).count("was trained already") == 2
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(vendor.questions()) == 32

    elsewhere = tmp_path / "elsewhere"
    command = [
        "unifilter", "train", "--data", str(out / "train.json"), "--validation", str(out / "validation.json"),
        "--images", str(out / "images"), "--output", str(elsewhere), "--preset", "unifilter_tiny",
        "--projector", str(out / "pretrain" / "model"), "--set", "epochs=1",
        *(f"--set={name}={value}" for name, value in parts.items()),
    ]  # fmt: skip
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (elsewhere / "model" / "model.safetensors").is_file()


def _artifacts(api: str) -> dict[str, Any]:
    latest = httpx.post(f"{api}/artifacts/latest/filter", json={}).raise_for_status().json()
    return {artifact["key"]: artifact["data"] for artifact in latest}


TRAIN = {"data": "rows.json", "validation": "more.json", "images": "images", "preset": "unifilter_tiny"}


def test_steps_take_what_the_ones_before_them_left() -> None:
    params = parse_params(
        {
            "output": "out",
            "synthesize": {"images": "data"},
            "pretrain": {"data": "c.json", "images": "c", "preset": "unifilter_qwen2.5_1.5b_projector", "gpus": 8},
            "train": {"preset": "unifilter_qwen2.5_1.5b", "settings": {"epochs": 5}},
            "score": {"shards": "data"},
        },
        "test",
    )
    first, second, scoring = params.pretraining(), params.training(), params.scoring()
    assert first is not None
    assert second is not None
    assert scoring is not None
    assert (first.processes, first.zero, first.output) == (8, "2", "out/pretrain")
    assert second.projector == "out/pretrain/model"
    assert (second.data, second.validation) == ("out/train.json", "out/validation.json")
    assert (second.epochs, second.zero, second.images) == (5, "3", "out/images")
    assert scoring.model == {"unifilter": "out/train/model"}
    on_gpu = params.only(*GPU_STEPS)
    assert on_gpu is not None
    assert on_gpu.synthesize is None
    assert [on_gpu.pretraining(), on_gpu.training(), on_gpu.scoring()] == [first, second, scoring]
    # without stage 1 beside it, a part of the run still knows the projector and the model
    for name, made in (("train", second), ("score", scoring)):
        alone = params.only(name)
        assert alone is not None
        assert {"train": alone.training, "score": alone.scoring}[name]() == made
    assert params.only("select") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no step is given"),
        ({"select": {}}, "give one of recipe, where, level, fraction, threshold"),
        ({"select": {"level": 3, "fraction": 0.1}}, "give one of"),
        ({"select": {"recipe": "unifilter_level9"}}, "no recipe is called 'unifilter_level9'"),
        ({"train": {**TRAIN, "preset": "unifilter"}}, "no recipe is called 'unifilter'"),
        ({"train": {**TRAIN, "preset": "unifilter_qwen2.5_1.5b"}}, "give the projector"),
        ({"train": {**TRAIN, "settings": {"model": "m", "labels": 3}}}, "labels"),
        ({"pretrain": {"data": "d", "images": "i", "preset": "mlm_filter_13b"}}, "trains more than the projector"),
    ],
)
def test_parameters_that_do_not_fit_say_so(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        parse_params({"output": "out", **fields}, "test")


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        ({"level": 2}, "unifilter.quality_class >= 2"),
        ({"fraction": 0.155}, "unifilter.quality_score >= top(15.5%)"),
        ({"threshold": 2.5}, "unifilter.quality_score >= 2.5"),
        ({"recipe": "unifilter_level3"}, "unifilter.quality_class >= 3"),
    ],
)
def test_a_selection_is_an_expression(step: dict[str, Any], rule: str) -> None:
    params = parse_params({"output": "out", "select": step}, "test")
    assert params.select is not None
    assert params.select.rule == rule


def test_the_validation_report_shows_the_kept_epoch() -> None:
    import numpy as np

    from vlfilter.training.level_metrics import level_metrics

    first = level_metrics(np.array([[0.0], [1.0], [3.0], [3.0]]), [0, 1, 2, 3], ["caption"] * 4)
    second = level_metrics(np.array([[3.0], [1.0], [3.0], [3.0]]), [0, 1, 2, 3], ["caption"] * 4)
    rows = [
        {"epoch": 1, "step": 5, "kept": True, "validation": first},
        {"epoch": 2, "step": 10, "kept": False, "validation": second},
    ]
    text = validation_text(rows)
    assert text.startswith("Kept: epoch 1, accuracy **0.750** on 4 rows")
    assert "| 2 hard negative | 0 | 0 | 0 | 1 | 0.000 | 0.000 |" in text
    assert "| 2 | 10 | 0.500 |" in text


def test_the_parameters_make_a_form() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.unifilter import unifilter

    schema = parameter_schema(unifilter)
    assert set(schema.definitions) >= {"UniFilterParams", "SynthesizeStep", "PretrainStep", "TrainStep", "SelectStep"}
    assert schema.definitions["UniFilterParams"]["required"] == ["output"]
    assert set(UniFilterParams.model_fields) == set(schema.definitions["UniFilterParams"]["properties"])
