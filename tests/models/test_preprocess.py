"""Preprocessing against the libraries' own: transformers' PIL processors and open_clip's transforms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from tests.helpers import picture
from vlfilter.errors import VlfilterError
from vlfilter.models import preprocess
from vlfilter.models.clip import _open_clip_settings
from vlfilter.models.preprocess import (
    ImageSettings,
    default_settings,
    image_settings,
    normalise,
    normalised_chunks,
    pad_to_square,
    parse_settings,
    preprocessor_config,
    to_pixels,
)

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
SIGLIP = SiglipImageProcessorPil(size={"height": 56, "width": 56})
SIGLIP2 = SiglipImageProcessorPil(size={"height": 48, "width": 48}, resample=2)
CLIP = CLIPImageProcessorPil()
CLIP_ODD = CLIPImageProcessorPil(size={"shortest_edge": 75}, crop_size={"height": 64, "width": 71})


def prepared(image: Image.Image, settings: ImageSettings) -> np.ndarray:
    pixels = to_pixels(image, settings)
    assert pixels.dtype == np.uint8
    out: np.ndarray = normalise(torch.from_numpy(pixels[None].copy()), settings)[0].numpy()
    return out


@pytest.mark.parametrize("processor", [SIGLIP, SIGLIP2, CLIP, CLIP_ODD])
@settings(max_examples=25, deadline=None)
@given(size=SIZES, seed=st.integers(0, 100))
def test_equals_the_processor(processor: Any, size: tuple[int, int], seed: int) -> None:
    if size[0] <= 3 or size[1] <= 3:
        size = (size[0] + 4, size[1] + 4)  # the processors take such an image for one with channels first
    image = picture(seed, size)
    ours = prepared(image, parse_settings(processor.to_dict(), "a processor"))
    theirs = processor(image, return_tensors="np").pixel_values[0]
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@settings(max_examples=15, deadline=None)
@given(size=SIZES)
def test_equals_open_clip(mode: str, interpolation: str, size: tuple[int, int]) -> None:
    config = PreprocessCfg(size=65, resize_mode=mode, interpolation=interpolation)
    ours = prepared(picture(1, size), _open_clip_settings(vars(config), "a model"))
    theirs = image_transform_v2(config, is_train=False)(picture(1, size)).numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize(("size", "left", "top"), [((7, 4), 0, 1), ((4, 7), 1, 0), ((5, 5), 0, 0)])
def test_padding_is_grey_and_rounds_down(size: tuple[int, int], left: int, top: int) -> None:
    image = Image.new("RGB", size, (255, 0, 0))
    square = np.asarray(pad_to_square(image, (0.5, 0.5, 0.5)))
    inside = np.zeros(square.shape[:2], dtype=bool)
    inside[top : top + size[1], left : left + size[0]] = True
    assert square.shape == (max(size), max(size), 3)
    assert (square[inside] == (255, 0, 0)).all()
    assert (square[~inside] == 127).all()


def test_pad_colour_is_the_published_one_for_clip() -> None:
    square = pad_to_square(Image.new("RGB", (2, 4)), preprocess.CLIP_MEAN)
    assert square.getpixel((0, 0)) == (122, 116, 104)


def test_pad_keeps_the_aspect_ratio() -> None:
    image = picture(2, (200, 100))
    padded = to_pixels(image, ImageSettings(48, 48, "pad"))
    assert np.abs(padded[:10].astype(int) - 127).max() <= 1
    assert np.array_equal(
        padded, np.asarray(pad_to_square(image, (0.5,) * 3).resize((48, 48), Image.Resampling.BICUBIC))
    )


def test_chunks_are_the_whole_batch_in_order() -> None:
    images = [to_pixels(picture(seed, (40, 30)), ImageSettings(16, 16)) for seed in range(2 * preprocess.CPU_CHUNK + 1)]
    chunks = list(normalised_chunks(images, ImageSettings(16, 16), "cpu"))
    assert [len(chunk) for chunk in chunks] == [preprocess.CPU_CHUNK] * 2 + [1]
    assert torch.equal(torch.cat(chunks), normalise(torch.from_numpy(np.stack(images)), ImageSettings(16, 16)))


@pytest.mark.parametrize("settings_", [parse_settings(p.to_dict(), "") for p in (SIGLIP, SIGLIP2, CLIP, CLIP_ODD)])
def test_settings_are_written_as_they_are_read(settings_: ImageSettings) -> None:
    assert parse_settings(json.loads(json.dumps(preprocessor_config(settings_))), "") == settings_


def test_defaults_are_the_processors() -> None:
    assert default_settings("siglip_vision_model", 56) == parse_settings(SIGLIP.to_dict(), "")
    assert default_settings("clip_vision_model", 224) == parse_settings(CLIP.to_dict(), "")


def test_old_files_with_bare_sizes() -> None:
    old = {"size": 224, "crop_size": 224, "image_mean": CLIP.image_mean, "image_std": CLIP.image_std, "resample": 3}
    assert parse_settings(old, "") == default_settings("clip_vision_model", 224)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_normalize": False}, "do_normalize"),
        ({"size": {"longest_edge": 224}}, "longest_edge"),
        ({"crop_size": {"height": 300, "width": 300}}, "larger than the resized image"),
    ],
)
def test_other_preprocessing_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        parse_settings(CLIP.to_dict() | change, "file")


def test_a_size_that_the_tower_does_not_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP.to_dict()))
    assert image_settings(tmp_path, "siglip_vision_model", 56).height == 56
    with pytest.raises(VlfilterError, match="56 × 56, but the vision tower takes 64 × 64"):
        image_settings(tmp_path, "siglip_vision_model", 64)
