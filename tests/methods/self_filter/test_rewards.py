"""ImageReward of instructions: equal to the model one by one; every row accounted for; stopped runs go on."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import jpeg, picture
from tests.reward_models import fixture_folder
from vlfilter.data.image_files import load_image
from vlfilter.data.storage import join
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.preprocess import preprocess
from vlfilter.methods.self_filter.rewards import RewardSettings, RewardSummary, image_rewards
from vlfilter.models.image_reward import load_image_reward, normalise_as_published
from vlfilter.models.preprocess import to_pixels

QUESTIONS = ["a red dog?", "the cat on the photo?", "what", "a cat [SEP] of dogs", "blue, ing", "one " * 50, "red cat"]
IMAGES = ["a.jpg", "b.jpg", "gone.jpg", None, "broken.jpg", "a.jpg", "c.jpg"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture_folder(tmp_path_factory.mktemp("models") / "reward")


def entry(question: str, image: str | None) -> dict[str, Any]:
    talk = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": "a dog"}]
    return {"id": question[:5], "conversations": talk} | ({"image": image} if image else {})


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Seven rows in shards of three: a missing image, a broken one, a text-only row, and an entry that is none."""
    entries: list[Any] = [entry(q, i) for q, i in zip(QUESTIONS, IMAGES, strict=True)]
    entries.append({"id": "x", "image": "a.jpg", "conversations": [{"from": "gpt", "value": "first"}]})
    (tmp_path / "llava.json").write_text(json.dumps(entries))
    preprocess(str(tmp_path / "llava.json"), str(tmp_path / "data"), rows_per_shard=3)
    (tmp_path / "images").mkdir()
    for seed, name in enumerate(["a.jpg", "b.jpg", "c.jpg"]):
        (tmp_path / "images" / name).write_bytes(jpeg(seed, (40 + 7 * seed, 33)))
    (tmp_path / "images" / "broken.jpg").write_bytes(jpeg(9)[:300])
    return tmp_path


def run(folder: Path, model: Path, **changes: Any) -> RewardSummary:
    given: dict[str, Any] = {"model": str(model), "device": "cpu", "batch_tokens": 100} | changes
    settings = RewardSettings(**given)
    return image_rewards(str(folder / "data"), str(folder / "images"), str(folder / "rewards"), settings)


def read(folder: Path | str) -> list[dict[str, Any]]:
    tables = []
    for name in sorted(os.listdir(folder)):
        with open_parquet(join(str(folder), name)) as file:
            tables += file.read().to_pylist()
    return tables


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_rewards_are_the_model_s_one_by_one(made: Path, model: Path) -> None:
    run(made, model)
    loaded = load_image_reward(str(model))
    rows = read(made / "rewards")
    for number in (0, 1, 5, 6):
        ids, length, _ = loaded.words(f"USER: {QUESTIONS[number].strip()} ASSISTANT: a dog")
        pixels = to_pixels(load_image(str(made / "images"), str(IMAGES[number])), loaded.images)
        with torch.inference_mode():
            images = normalise_as_published([pixels], loaded.images, "cpu")
            reward = loaded.rewards(images, torch.tensor([ids[:length]]), torch.ones(1, length, dtype=torch.long))
        assert rows[number]["image_reward"] == pytest.approx(reward.item(), abs=1e-4)
    assert len({round(rows[n]["image_reward"], 3) for n in (0, 1, 5, 6)}) == 4


def test_every_row_is_there_with_its_reason(made: Path, model: Path) -> None:
    done = run(made, model)
    rows = read(made / "rewards")
    assert [row["id"] for row in rows] == list(range(8))
    problems = {row["id"]: (row["status"], row["reason"]) for row in rows if row["image_reward"] is None}
    assert sorted(problems) == [2, 3, 4, 7]
    assert problems[2] == ("missing_image", "there is no image gone.jpg")
    assert problems[3] == ("missing_image", "the row is text only")
    assert problems[4][0] == "corrupt_image"
    assert problems[7] == ("unsupported", "turn 0 is from 'gpt', expected 'human'")
    assert done.rows == {"ok": 4, "corrupt_image": 1, "missing_image": 2, "unsupported": 1}
    assert (done.made, done.kept) == (3, 0)


def test_what_is_done_is_not_done_again(made: Path, model: Path) -> None:
    run(made, model)
    before = stamps(made / "rewards")
    assert run(made, model).kept == 3
    assert stamps(made / "rewards") == before
    (made / "rewards" / "00001.parquet").unlink()
    (made / "rewards" / "00002.parquet").write_bytes(b"PAR1 torn")
    (made / "rewards" / "00009.parquet").write_bytes(b"of another input")
    assert (run(made, model).made, len(read(made / "rewards"))) == (2, 8)
    assert stamps(made / "rewards")["00000.parquet"] == before["00000.parquet"]


def test_images_that_have_come_are_scored(made: Path, model: Path) -> None:
    run(made, model)
    (made / "images" / "broken.jpg").write_bytes(jpeg(9))
    done = run(made, model)
    assert (done.made, done.rows["ok"], done.rows.get("corrupt_image")) == (1, 5, None)
    assert read(made / "rewards")[4]["image_reward"] is not None


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"model": "other"}])
def test_other_settings_make_all_anew(made: Path, model: Path, change: dict[str, Any]) -> None:
    run(made, model)
    if "model" in change:
        model, change = fixture_folder(made / "other", published=False), {}
        state = load_file(made / "other" / "model.safetensors")
        state["mlp.layers.7.bias"] += 1
        save_file(state, made / "other" / "model.safetensors")
    before = [row["image_reward"] for row in read(made / "rewards")]
    assert run(made, model, **change).made == 3
    assert [row["image_reward"] for row in read(made / "rewards")] != before


def test_other_rows_make_only_their_shard_anew(made: Path, model: Path) -> None:
    run(made, model)
    entries = json.loads((made / "llava.json").read_text())
    entries[6] = entry("blue", "c.jpg")
    (made / "llava.json").write_text(json.dumps(entries))
    preprocess(str(made / "llava.json"), str(made / "data"), rows_per_shard=3)
    before = read(made / "rewards")
    done = run(made, model)
    assert (done.made, done.kept) == (1, 2)
    assert [a == b for a, b in zip(before, read(made / "rewards"), strict=True)] == [True] * 6 + [False, True]


def test_what_is_done_needs_no_images_any_more(made: Path, model: Path) -> None:
    first = run(made, model)
    (made / "images").rename(made / "elsewhere")
    assert run(made, model) == replace(first, made=0, kept=first.made)


def test_a_wrong_image_folder_is_told_before_the_model_loads(made: Path) -> None:
    (made / "empty").mkdir()
    settings = RewardSettings(model=str(fixture_folder(made / "unread")))
    (made / "unread" / "ImageReward.pt").write_bytes(b"not read")
    with pytest.raises(VlfilterError, match=r"none of the first 5 images .* a\.jpg"):
        image_rewards(str(made / "data"), str(made / "empty"), str(made / "rewards"), settings)


def test_a_model_that_scores_nothing_is_an_error(tmp_path: Path, model: Path) -> None:
    entries = [entry(f"cat {n}", "a.jpg") for n in range(9)]
    (tmp_path / "llava.json").write_text(json.dumps(entries))
    preprocess(str(tmp_path / "llava.json"), str(tmp_path / "data"))
    (tmp_path / "images").mkdir()
    picture().save(tmp_path / "images" / "a.jpg")
    broken = fixture_folder(tmp_path / "broken", published=False)
    state = load_file(broken / "model.safetensors")
    state["mlp.layers.7.bias"].fill_(float("nan"))
    save_file(state, broken / "model.safetensors")
    with pytest.raises(VlfilterError, match=r"scored no row at all.*not a number"):
        run(tmp_path, broken)
    assert not list((tmp_path / "rewards").glob("*.parquet"))


def test_without_preprocessing_it_says_so(tmp_path: Path, model: Path) -> None:
    with pytest.raises(VlfilterError, match="preprocess"):
        run(tmp_path, model)


def test_on_s3(made: Path, model: Path, s3: str) -> None:
    settings = RewardSettings(model=str(model), device="cpu")
    preprocess(str(made / "llava.json"), join(s3, "data"), rows_per_shard=3)
    done = image_rewards(join(s3, "data"), str(made / "images"), join(s3, "rewards"), settings)
    assert done.made == 3
    assert image_rewards(join(s3, "data"), str(made / "images"), join(s3, "rewards"), settings).kept == 3
