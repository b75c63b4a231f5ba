"""`vlfilter data-engine index` and `query`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.helpers import jpeg
from tests.methods.data_engine.query_parts import write_inputs
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.models.clip import save_clip
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.presets import build_clip, clip_images


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["data-engine", *words])
    if isinstance(result.exception, VlfilterError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "clip"
    tokenizer = openai_tokenizer()
    torch.manual_seed(0)
    return str(save_clip(folder, build_clip("clip_micro", tokenizer), tokenizer, clip_images("clip_micro")))


def test_from_images_to_prompts(tmp_path: Path, model: str) -> None:
    paths = write_inputs(tmp_path)
    images = tmp_path / "train2017"
    (tmp_path / "val2017").mkdir()
    images.mkdir()
    for entry in json.loads(Path(paths["instances"]).read_text())["images"][:20]:
        (images / entry["file_name"]).write_bytes(jpeg(entry["id"]))
    for number in range(900, 907):  # the last of the eight anchors is missing
        (tmp_path / "val2017" / f"{number:012d}.jpg").write_bytes(jpeg(number))
    made = ["--output", str(tmp_path / "index"), "--model", model, "--device", "cpu"]
    told = run("index", "--images", str(images), "--annotations", paths["instances"], *made)
    assert "20 ok, 20 missing_image; 1 parts embedded, 0 kept" in told
    assert "such as 0000000050" in told
    output = tmp_path / "round_1" / "gptvqa_prompt.json"
    words = ["query", "--input", paths["bad_cases"], "--weight", paths["weights"], "--captions", paths["captions"],
             "--instances", paths["instances"], "--bad-case-images", str(tmp_path), "--maxnum", "30", "--topk", "5",
             "--seed", "3", "--output", str(output), "--device", "cpu"]  # fmt: skip
    told = run(*words, "--index", str(tmp_path / "index"))
    assert "18 of 30 queries" in told
    assert "no usable image is left" in told
    assert "image_quality" in told
    rows = json.loads(output.read_text())
    assert len({r["image_id"] for r in rows}) == 18
    with pytest.raises(VlfilterError, match="either --index"):
        run(*words)
    with pytest.raises(VlfilterError, match="either --index"):
        run(*words, "--index", "x", "--images", "y")
    told = run(*words, "--images", str(images), "--model", model)
    assert (tmp_path / "round_1" / "image_index" / "index.json").is_file()
    assert "18 of 30 queries" in told
