"""CLIP models of transformers and open_clip behind one small interface: normalised features of images and captions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfilter.errors import VlfilterError
from vlfilter.models.clip_config import clip_shape
from vlfilter.models.clip_source import ClipSource, clip_source
from vlfilter.models.clip_text import CaptionTokens, HfCaptions, OpenClipCaptions
from vlfilter.models.clip_towers import ClipTowers
from vlfilter.models.folders import model_folder, read_json, weight_files
from vlfilter.models.preprocess import ImageSettings, image_settings, preprocessor_config
from vlfilter.models.tokenizer import TextTokenizer, load_tokenizer
from vlfilter.models.weights import empty_parameters, fill, is_derived, open_weights, write_weights


@dataclass(frozen=True)
class LoadedClip:
    """A CLIP on its device.

    `encode_images` takes normalised pixels (N, 3, H, W), `encode_texts` token ids (N, L); both give features
    (N, dimension), not normalised. `tokens` makes a caption's ids, `patches` is what an image costs the vision tower.
    """

    images: ImageSettings
    tokens: CaptionTokens
    patches: int
    device: str
    encode_images: Callable[[Tensor], Tensor]
    encode_texts: Callable[[Tensor], Tensor]


def load_clip(
    model: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32, control_tokens: bool = False
) -> LoadedClip:
    """Load a CLIP (for the forms of `model` see `clip_source`).

    With `control_tokens` a special token's text in a caption becomes that token, as the libraries do; else it stays
    text. Raises `VlfilterError` when something is missing or does not fit.
    """
    source = clip_source(model)
    if source.is_open_clip:
        return _load_open_clip(source, device, dtype, control_tokens)
    return _load_transformers(model_folder(source.name), device, dtype, control_tokens)


def _load_transformers(folder: Path, device: str, dtype: torch.dtype, control_tokens: bool) -> LoadedClip:
    clip_source(str(folder))  # what came from the hub is checked like a local folder
    config = clip_shape(read_json(folder / "config.json"), str(folder / "config.json"))
    tokenizer = load_tokenizer(folder)
    with empty_parameters():
        model = ClipTowers(config)
    stored = {name: tensor for name, tensor in open_weights(weight_files(folder)).items() if not is_derived(name)}
    fill(model, stored, str(folder), device, lambda _: dtype)
    model.eval().requires_grad_(False)
    vision, text = config.vision_config, config.text_config
    if text.vocab_size < len(tokenizer.hf):
        raise VlfilterError(
            f"{folder}: the tokenizer has {len(tokenizer.hf)} tokens, the model only {text.vocab_size}: they do not "
            "belong together."
        )
    return LoadedClip(
        images=image_settings(folder, "clip_vision_model", vision.image_size),
        tokens=HfCaptions(tokenizer, text.max_position_embeddings, control_tokens),
        patches=(vision.image_size // vision.patch_size) ** 2 + 1,
        device=device,
        encode_images=lambda pixels: model.encode_images(pixels.to(dtype)),
        encode_texts=model.encode_texts,
    )


def _load_open_clip(source: ClipSource, device: str, dtype: torch.dtype, control_tokens: bool) -> LoadedClip:
    import open_clip

    precision = {torch.float32: "fp32", torch.float16: "pure_fp16", torch.bfloat16: "pure_bf16"}[dtype]
    logging.getLogger("open_clip").setLevel(logging.WARNING)
    try:
        model: Any = open_clip.create_model(
            source.architecture,
            pretrained=source.pretrained,
            precision=precision,
            device=device,
            weights_only=True,
            require_pretrained=True,
        )
        tokenizer = open_clip.get_tokenizer(source.architecture)
    except Exception as error:  # open_clip raises many families of errors, among them those of the network
        raise VlfilterError(f"open_clip cannot load {source.name!r}: {type(error).__name__}: {error}") from error
    model.eval().requires_grad_(False)
    preprocessing = open_clip.get_model_preprocess_cfg(model)
    settings = _open_clip_settings(preprocessing, source.name)
    grid = getattr(model.visual, "grid_size", (settings.height // 16, settings.width // 16))
    return LoadedClip(
        images=settings,
        tokens=OpenClipCaptions(tokenizer, control_tokens),
        patches=int(grid[0]) * int(grid[1]) + 1,
        device=device,
        encode_images=lambda pixels: model.encode_image(pixels.to(dtype)),
        encode_texts=model.encode_text,
    )


def _open_clip_settings(config: dict[str, Any], origin: str) -> ImageSettings:
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    mode = config.get("resize_mode", "shortest")
    if mode not in ("squash", "shortest") or (mode == "shortest" and height != width):
        raise VlfilterError(f"{origin}: images resized by {mode!r} to {height} × {width} are not supported.")
    return ImageSettings(
        height,
        width,
        mode,
        shortest_edge=height if mode == "shortest" else 0,
        resample=2 if config.get("interpolation") == "bilinear" else 3,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        round_crop=True,
    )


def save_clip(path: str | Path, model: Any, tokenizer: TextTokenizer, images: ImageSettings) -> Path:
    """Write a transformers CLIP with its tokenizer and preprocessing, as `load_clip` reads it, and return its folder.

    Raises `VlfilterError` when the folder exists with something in it.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise VlfilterError(f"{target} exists already: remove it, or choose another folder for the checkpoint.")
    target.mkdir(parents=True, exist_ok=True)
    write_weights(target, model.state_dict())
    model.config.architectures = ["CLIPModel"]  # by which other tools find the class
    model.config.save_pretrained(target)
    tokenizer.hf.save_pretrained(target)
    config = preprocessor_config(images)
    (target / "preprocessor_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return target


def cosine(images: Tensor, texts: Tensor) -> Tensor:
    """Cosine similarity (N,) of features (N, dimension), computed in float32."""
    images = torch.nn.functional.normalize(images.float(), dim=-1)
    texts = torch.nn.functional.normalize(texts.float(), dim=-1)
    return (images * texts).sum(-1)


def pad_ids(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Token ids of several lengths → (N, longest) int64, padded to the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
