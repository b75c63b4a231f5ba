"""The classifier's data, objective and metrics; everything that needs no processes of its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from tests.helpers import picture
from tests.models import small
from tests.training import levels
from vlfilter.data.quality_rows import QualityRow
from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.errors import VlfilterError
from vlfilter.models.start_token import with_start_token
from vlfilter.scoring.unifilter_text import IMAGE, TextLimits, caption_sequence, document_sequence
from vlfilter.training.launch import finetune
from vlfilter.training.level_metrics import level_metrics, predicted_levels, spearman
from vlfilter.training.objective import Levels
from vlfilter.training.quality_data import QualityEncoder
from vlfilter.training.recipes import RECIPES
from vlfilter.training.settings import TrainSettings, train_settings
from vlfilter.training.start import open_start

TOKENS = 4  # of an image


def encoder(max_length: int = 512) -> QualityEncoder:
    return QualityEncoder(small.tokenizer(), TOKENS, max_length)


@pytest.mark.parametrize("caption", ["a red bus", "see <image> here", "", "</s><s> quoted", "two\nlines "])
def test_a_caption_is_written_as_it_is_scored(caption: str) -> None:
    text = "<image>\n" + caption.replace("<image>", "image")
    row = QualityRow("1", ("a.jpg",), text, 3, "caption")
    scored = caption_sequence(ImageText(picture(), caption), small.tokenizer(), TextLimits())
    assert encoder().encode(row).ids == scored.ids


def test_a_long_caption_is_cut_as_it_is_scored() -> None:
    row = QualityRow("1", ("a.jpg",), "<image>\n" + "bus " * 900, 3, "caption")
    scored = caption_sequence(ImageText(picture(), "bus " * 900), small.tokenizer(), TextLimits())
    found = encoder(2048).encode(row)
    assert (found.ids, found.truncated) == (scored.ids, True)
    short = encoder(64).encode(row)
    assert short.length == 64
    assert short.ids[-1] == small.tokenizer().eos


@pytest.mark.parametrize("limit", [512, 24, 16])
def test_a_document_is_written_as_it_is_scored(limit: int) -> None:
    texts = (None, "a red bus in London", None, "two dogs\n\nplay in the snow", None)
    pictures = tuple(None if text else picture(i) for i, text in enumerate(texts))
    document = Interleaved(texts, pictures, (None,) * len(texts))
    text = "\n\n".join("<image>" if part is None else part for part in texts)
    row = QualityRow("1", ("0", "2", "4"), text, 1, "interleaved")
    scored = document_sequence(document, small.tokenizer(), TextLimits(document_tokens=limit), TOKENS)
    found = encoder(limit).encode(row)
    assert found.ids == scored.ids
    assert len(found.images) == found.ids.count(IMAGE) == len(scored.images)
    assert found.truncated == (scored.truncated or scored.dropped_images > 0)
    assert found.length == len(found.ids) + len(found.images) * (TOKENS - 1) <= limit


def test_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    outputs = (labels + rng.normal(0, 0.8, 200))[:, None]
    kinds = rng.choice(["caption", "interleaved"], 200).tolist()
    found = level_metrics(outputs, labels.tolist(), kinds)
    judged = predicted_levels(outputs)
    assert found["accuracy"] == accuracy_score(labels, judged)
    expected = precision_recall_fscore_support(labels, judged, average="macro", zero_division=0)
    assert [found["precision"], found["recall"], found["f1"]] == pytest.approx(expected[:3])
    assert found["confusion"] == confusion_matrix(labels, judged).tolist()
    each = precision_recall_fscore_support(labels, judged, average=None, zero_division=0)
    assert [level["f1"] for level in found["levels"]] == pytest.approx(each[2])
    for kind, part in found["kinds"].items():
        chosen = np.asarray(kinds) == kind
        assert part == {"rows": chosen.sum(), "accuracy": accuracy_score(labels[chosen], judged[chosen])}
    assert json.loads(json.dumps(found)) == found


def test_levels_round_as_published() -> None:
    """0.5 → 0, 1.5 → 2, 2.5 → 2: halves go to the even level; scores beyond the scale are clipped."""
    outputs = np.array([0.5, 1.5, 2.5, 2.4999, 3.7, -0.4])[:, None]
    assert predicted_levels(outputs).tolist() == [0, 2, 2, 2, 3, 0]
    assert predicted_levels(np.eye(4)).tolist() == [0, 1, 2, 3]


def test_a_level_that_never_occurs_does_not_lower_the_means() -> None:
    found = level_metrics(np.array([[0.0], [3.0]]), [0, 3], ["caption", "caption"])
    assert (found["f1"], found["accuracy"], found["levels"][1]["f1"]) == (1.0, 1.0, 0.0)
    assert found["spearman"] == pytest.approx(1)


def test_rank_correlation_with_ties() -> None:
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 9, 80) / 4, rng.integers(0, 4, 80)
    expected = pd.Series(scores).rank().corr(pd.Series(labels).rank())
    assert spearman(scores, labels) == pytest.approx(expected)
    assert spearman(np.ones(4), labels[:4]) is None


def settings(tmp_path: Path, rows: list[dict[str, Any]], **own: Any) -> TrainSettings:
    given = levels.data(tmp_path, rows, levels.rows(8, 100))
    model = levels.start(tmp_path / "start")
    return train_settings({**given, "model": str(model), "output": str(tmp_path / "out"), **own}, "unifilter_tiny")


def test_bad_rows_are_counted_and_reasoned(tmp_path: Path) -> None:
    rows = levels.rows(16)
    rows[0]["image"] = "part/none.jpg"
    rows[1]["image"] = "part/torn.jpg"
    rows[2]["label"] = 4
    rows[3]["label"] = "good"
    rows[4]["image"] = rows[4]["image"][:-1]  # one image less than slots
    rows[7]["image"] = [*rows[7]["image"][:-1], "../outside.jpg"]
    given = settings(tmp_path, rows)
    (tmp_path / "images" / "part" / "torn.jpg").write_bytes(b"\xff\xd8\xff no picture")
    start = open_start(given)
    checked = Levels(given, start, TOKENS).check(given.data)
    assert (checked.rows, checked.skipped) == (16, 6)
    reasons = {bad.row: bad.reason for bad in checked.report.bad}
    assert len(reasons) == 3
    assert "part/none.jpg' is missing" in " ".join(reasons.values())
    assert "part/torn.jpg' is broken" in " ".join(reasons.values())
    assert "leaves the image folder" in " ".join(reasons.values())
    told = " ".join(checked.unreadable)
    assert "its label 4 is none of 0, 1, 2, 3" in told
    assert "its text has 2 <image> for 1 images" in told


def test_too_many_bad_rows_stop_the_run_before_it_trains(tmp_path: Path) -> None:
    rows = levels.rows(16)
    rows[0]["image"] = "part/none.jpg"
    with pytest.raises(VlfilterError, match=r"1 of 16 rows cannot be used .*\n  row 0.*part/none.jpg' is missing"):
        finetune(settings(tmp_path, rows))
    assert not (tmp_path / "out" / "model").exists()


def test_an_empty_level_stops_the_run_before_it_trains(tmp_path: Path) -> None:
    rows = [row for row in levels.rows(16) if row["label"] != 2 or isinstance(row["image"], list)]
    with pytest.raises(VlfilterError, match="no caption row of level 2"):
        finetune(settings(tmp_path, rows))
    assert not (tmp_path / "out" / "job.json").exists()


def test_the_head_is_new_and_the_rest_is_the_language_models(tmp_path: Path) -> None:
    for labels in (1, 4):
        given = settings(tmp_path / str(labels), levels.rows(8), labels=labels, image_mode="squash")
        start = open_start(given)
        assert start.config.num_labels == labels
        assert "lm_head.weight" not in start.tensors
        weight = start.tensors["score.weight"].read()
        assert weight.shape == (labels, 32)
        assert torch.equal(weight, open_start(given).tensors["score.weight"].read())
        assert start.config.published["mm_image_mode"] == "squash"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": None}, "a classifier needs validation rows"),
        ({"trainable": "projector"}, "head must be trained"),
        ({"objective": "conversation"}, "validation rows are for the objective classifier"),
        ({"labels": 3}, "labels"),
    ],
)
def test_settings_that_do_not_fit_say_so(change: dict[str, Any], message: str) -> None:
    given = {"data": "d", "validation": "v", "images": "i", "output": "o", "model": "m", **change}
    with pytest.raises(VlfilterError, match=message):
        train_settings(given, "unifilter_tiny")


def test_recipes_are_as_published() -> None:
    given = {"data": "d", "images": "i", "output": "o"}
    second = train_settings({**given, "validation": "v", "projector": "p"}, "unifilter_qwen2.5_1.5b")
    published = {
        "epochs": 10, "batch_size": 512, "per_device_batch": 32, "eval_batch": 16, "learning_rate": 2e-5,
        "weight_decay": 0.0, "warmup_ratio": 0.03, "schedule": "cosine", "zero": "3", "image_mode": "pad",
        "group_by_modality_length": False, "labels": 1, "image_tokens": 144, "select_layer": -1, "max_length": 4096,
        "gradient_checkpointing": True, "data_workers": 4, "projector_kind": "aapool_mlp", "save_total_limit": 2,
    }  # fmt: skip
    assert published.items() <= second.model_dump().items()
    qwen3 = train_settings({**given, "validation": "v", "projector": "p"}, "unifilter_qwen3_0.6b")
    assert (qwen3.max_length, qwen3.start_token) == (8192, "<s>")
    assert qwen3.vision_tower == "google/siglip2-so400m-patch14-384"
    first = train_settings(given, "unifilter_qwen2.5_1.5b_projector")
    published = {
        "template": "plain", "trainable": "projector", "learning_rate": 1e-3, "epochs": 1, "zero": "2", "bos": "always",
        "batch_size": 512, "warmup_ratio": 0.03, "weight_decay": 0.0, "max_length": 2048, "image_mode": "processor",
    }  # fmt: skip
    assert published.items() <= first.model_dump().items()
    stages = Counter(name.endswith("_projector") for name in RECIPES if name.startswith("unifilter"))
    assert stages == {True: 4, False: 4}


def test_a_tokenizer_without_bos_gets_one_and_padding_of_its_own() -> None:
    from tests.models.hf import tokenizer

    bare = tokenizer(("<|endoftext|>", "<|im_end|>"), bos=False).hf
    bare.bos_token = None
    from vlfilter.models.tokenizer import wrap_tokenizer

    named = bare.convert_tokens_to_ids("<|endoftext|>")
    bare.pad_token = "<|endoftext|>"
    bare.unk_token = None
    made = with_start_token(wrap_tokenizer(bare, "test", needs_bos=False), None, named, len(bare) + 1)
    assert made.start == named
    assert made.hf.pad_token == "[PAD]"
    assert made.ids("<|endoftext|>") != [named]
    with pytest.raises(VlfilterError, match="give a start_token that it has already"):
        with_start_token(made, None, named, len(made.hf) - 1)
