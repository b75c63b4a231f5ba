"""Image preprocessing, exactly as transformers' slow (PIL) processors do it, split in two.

`to_pixels` runs in threads on the CPU and gives uint8; `normalise` runs batched on the device. The published scores
come from the slow processors; the fast ones differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json

if TYPE_CHECKING:
    import torch

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
CPU_CHUNK, CUDA_CHUNK = 16, 128  # images normalised and encoded at a time


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What becomes of an image. `height` × `width` is what the tower gets.

    `resize` is `squash` (ignore the aspect ratio), `shortest` (shorter edge to `shortest_edge`, then a centre crop),
    or `pad` (to a square with the mean's grey, then squash). `round_crop` centres as torchvision does (half to even)
    instead of rounding down. `resample` is PIL's filter number (2 bilinear, 3 bicubic).
    """

    height: int
    width: int
    resize: str = "squash"
    shortest_edge: int = 0
    resample: int = 3
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    scale: float = 1 / 255
    round_crop: bool = False


def image_settings(folder: Path, tower: str, image_size: int) -> ImageSettings:
    """The settings of a tower: its preprocessor_config.json where there is one, else the defaults of its type.

    `tower` is the type of its configuration (`clip_vision_model`, …). Raises `VlfilterError` when the file asks for
    something else than resize, centre crop, rescale and normalise, or for another size than the tower has.
    """
    path = folder / "preprocessor_config.json"
    config = read_json(path) if path.is_file() else None
    if config is None and (folder / "processor_config.json").is_file():  # where transformers 5 writes it
        path = folder / "processor_config.json"
        config = read_json(path).get("image_processor")
    if config is None:
        return default_settings(tower, image_size)
    settings = parse_settings(config, str(path))
    if (settings.height, settings.width) != (image_size, image_size):
        raise VlfilterError(
            f"{path} makes images of {settings.height} × {settings.width}, "
            f"but the vision tower takes {image_size} × {image_size}."
        )
    return settings


def default_settings(tower: str, image_size: int) -> ImageSettings:
    if tower == "clip_vision_model":
        return ImageSettings(image_size, image_size, "shortest", image_size, mean=CLIP_MEAN, std=CLIP_STD)
    if tower == "blip_2_vision_model":  # as LAVIS evaluates: bicubic, the aspect ratio ignored
        return ImageSettings(image_size, image_size, mean=CLIP_MEAN, std=CLIP_STD)
    return ImageSettings(image_size, image_size)


def parse_settings(config: Mapping[str, Any], origin: str) -> ImageSettings:
    """The settings in a transformers preprocessor_config.json (old files hold bare integers for sizes)."""
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if config.get(step) is False:
            raise VlfilterError(f"{origin}: {step} false is not supported.")
    size, crop = config.get("size", 224), config.get("crop_size", 224)
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    shared: dict[str, Any] = {
        "resample": int(config.get("resample", 3)),
        "mean": tuple(map(float, config.get("image_mean", HALF))),
        "std": tuple(map(float, config.get("image_std", HALF))),
        "scale": float(config.get("rescale_factor", 1 / 255)),
    }
    if "height" in size and "width" in size and not config.get("do_center_crop"):
        return ImageSettings(int(size["height"]), int(size["width"]), **shared)
    if set(size) == {"shortest_edge"} and config.get("do_center_crop", True):
        edge = int(size["shortest_edge"])
        if max(crop["height"], crop["width"]) > edge:
            raise VlfilterError(f"{origin}: a crop of {crop} is larger than the resized image ({edge}).")
        return ImageSettings(int(crop["height"]), int(crop["width"]), "shortest", edge, **shared)
    raise VlfilterError(
        f"{origin}: resizing to {size} with do_center_crop {config.get('do_center_crop')} is not supported."
    )


def preprocessor_config(settings: ImageSettings) -> dict[str, Any]:
    """The settings as a transformers preprocessor_config.json (`pad` is written as the squash that follows it)."""
    shared = {
        "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": settings.resample,
        "image_mean": list(settings.mean), "image_std": list(settings.std), "rescale_factor": settings.scale,
    }  # fmt: skip
    crop = {"height": settings.height, "width": settings.width}
    if settings.resize == "shortest":
        size = {"shortest_edge": settings.shortest_edge}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_center_crop": True,
            "size": size,
            "crop_size": crop,
            **shared,
        }
    return {"image_processor_type": "SiglipImageProcessor", "size": crop, **shared}


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """The image in the middle (rounded down) of a square of the mean's colour, as LLaVA trains with."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def to_pixels(image: Image.Image, settings: ImageSettings) -> np.ndarray:
    """An RGB image → uint8 (height, width, 3), resized and cropped, not yet normalised."""
    resample = Image.Resampling(settings.resample)
    if settings.resize == "pad":
        image = pad_to_square(image, settings.mean)
    if settings.resize != "shortest":
        return np.asarray(image.resize((settings.width, settings.height), resample))
    width, height = image.size
    edge = settings.shortest_edge
    size = (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
    resized = image.resize(size, resample)
    across, down = size[0] - settings.width, size[1] - settings.height
    left, top = (round(across / 2), round(down / 2)) if settings.round_crop else (across // 2, down // 2)
    # cropping the PIL image first copies the kept rows only once
    return np.asarray(resized.crop((left, top, left + settings.width, top + settings.height)))


def normalise(pixels: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W) on the same device; equals the processors' result to 1e-6."""
    import torch

    from vlfilter.models.device import upload

    mean, std = (upload(torch.tensor(one), pixels.device).view(1, 3, 1, 1) for one in (settings.mean, settings.std))
    channels_first = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
    return channels_first.mul_(settings.scale).sub_(mean).div_(std)


def normalised_chunks(pixels: Sequence[np.ndarray], settings: ImageSettings, device: str) -> Iterator[torch.Tensor]:
    """The images (H, W, 3) uint8 of a batch as `normalise` gives them, a few at a time, on a device.

    Floats are four times as large as bytes: chunks keep them in a CPU's cache and bound them on a GPU.
    """

    from vlfilter.models.device import upload_pixels

    size = CUDA_CHUNK if device.startswith("cuda") else CPU_CHUNK
    for start in range(0, len(pixels), size):
        yield normalise(upload_pixels(pixels[start : start + size], device), settings)
