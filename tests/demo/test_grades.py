"""The demo's graded captions: computed from how each pair was spoiled, and learnt by the real recipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from PIL import Image

from vlfilter.data.annotations import read_instructions
from vlfilter.demo.grades import GRADES, METRIC, GradeSizes, from_unifilter, grade_pairs, phrases, train_mlm_filter
from vlfilter.demo.scenes import scenes
from vlfilter.demo.train import TrainSizes, train_models
from vlfilter.models.checkpoints import load_vlm
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import instruction


def test_every_scene_is_graded_in_every_level_and_some_degraded(tmp_path: Path) -> None:
    grades = list(grade_pairs(list(scenes("train", 30, 0)), tmp_path, 0))
    assert Counter(grade.score for grade in grades) == {95: 30, 65: 30, 35: 30, 5: 30 + 10}
    assert set(GRADES.values()) == {grade.score for grade in grades}
    assert all((tmp_path / grade.image).is_file() and grade.metric == METRIC for grade in grades)
    spoiled = [grade for grade in grades if "spoiled" in grade.id]
    clean, degraded = (Image.open(tmp_path / name) for name in ("00000.png", spoiled[0].image))
    assert clean.tobytes() != degraded.tobytes()


def test_the_trained_model_scores_as_it_was_taught(tmp_path: Path) -> None:
    train_models(tmp_path, TrainSizes(200, 2, 16, 2, 4), 0)
    from_unifilter(tmp_path / "start", tmp_path / "unifilter", 0)
    start, unifilter = load_vlm(str(tmp_path / "start"), head="lm"), load_vlm(str(tmp_path / "unifilter"))
    layer = "body.layers.0.mlp.up_proj.weight"
    assert torch.equal(start.model.state_dict()[layer], unifilter.model.state_dict()[layer])
    sentences = {phrase: len(start.tokenizer.ids(phrase)) for phrase in phrases()}
    assert set(sentences.values()) == {1}

    trained = train_mlm_filter(tmp_path / "mlm", tmp_path / "unifilter", GradeSizes(20, 32, 1), 0)
    rows, bad = read_instructions(str(tmp_path / "mlm" / "instructions.json"))
    assert (len(rows), bad, trained.steps) == (32, [], 1)
    scorer = MlmFilter(ScorerSettings(str(trained.model), device="cpu", dtype="float32", options={"metric": METRIC}))
    scorer.load()
    question, answer = rows[0].pairs[0]
    caption = question.split("Text Caption: ")[1].split("\n\n")[0]
    assert question == "<image>\n" + instruction(METRIC, caption, 2)
    assert scorer._asker.prompt(METRIC, caption).startswith(phrases()[0])  # the template it was trained on
    assert 0 <= int(answer) <= 100
