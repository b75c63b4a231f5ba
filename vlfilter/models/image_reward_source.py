"""Which ImageReward a name means, its sizes and its vocabulary, checked without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from vlfilter.errors import VlfilterError
from vlfilter.models.digests import files_digest, hub_commit
from vlfilter.models.folders import hub_file, local_folder, read_json

PUBLISHED_WEIGHTS = "ImageReward.pt"
WEIGHTS = ("model.safetensors", "ImageReward.safetensors", PUBLISHED_WEIGHTS)
TEXT_CONFIG = "med_config.json"
VOCABULARY = "vocab.txt"
BERT = "google-bert/bert-base-uncased"  # whose vocabulary the published folder takes for granted


@dataclass(frozen=True, slots=True)
class VisionSizes:
    """A ViT; the defaults are those of ViT-L/16 at 224 pixels, which the published code fixes."""

    image_size: int = 224
    patch_size: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2 + 1


@dataclass(frozen=True, slots=True)
class TextSizes:
    """BLIP's text encoder, under the names of BERT's configuration; by default BERT base with BLIP's two tokens."""

    vocab_size: int = 30524
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 512
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"


Sizes = TypeVar("Sizes", VisionSizes, TextSizes)


@dataclass(frozen=True, slots=True)
class RewardSizes:
    vision: VisionSizes = VisionSizes()
    text: TextSizes = TextSizes()


REWARD_PRESETS: dict[str, RewardSizes] = {
    "image_reward_v1": RewardSizes(),
    # 32 px, 0.3 million parameters: for tests
    "image_reward_tiny": RewardSizes(VisionSizes(32, 16, 64, 2, 4), TextSizes(64, 48, 96, 2, 4, 40)),
}


@dataclass(frozen=True, slots=True)
class RewardSource:
    """A local `folder`, or the `hub_name` of the published layout."""

    folder: Path | None = None
    hub_name: str = ""

    def digest(self) -> str:
        """What tells this model from others: content of local files, or the commit of a hub name."""
        if self.folder is None:
            return f"hub:{self.hub_name}@{hub_commit(self.hub_name, (TEXT_CONFIG, PUBLISHED_WEIGHTS))}"
        folder = self.folder
        optional = [folder / name for name in ("config.json", VOCABULARY) if (folder / name).is_file()]
        return files_digest([weights_file(folder), folder / TEXT_CONFIG, *optional])

    def files(self) -> tuple[Path, RewardSizes, Path]:
        """(weights, sizes, vocabulary); what is not local is downloaded to (or found in) the hub's cache.

        Raises `VlfilterError` when something is missing or describes no such model.
        """
        if self.folder is not None:
            return weights_file(self.folder), read_sizes(self.folder), vocabulary_file(self.folder)
        folder = hub_file(self.hub_name, TEXT_CONFIG).parent
        return hub_file(self.hub_name, PUBLISHED_WEIGHTS), read_sizes(folder), vocabulary_file(folder)


def reward_source(model: str) -> RewardSource:
    """The ImageReward that `model` names: a folder with `med_config.json` and `ImageReward.pt` (or the same tensors as
    safetensors), or a hub name such as `THUDM/ImageReward`.

    A folder may hold `vocab.txt` (else BERT's own is taken from the hub) and, for other sizes than the published,
    `config.json` with the fields of `VisionSizes`. Raises `VlfilterError` when a local folder lacks something.
    """
    folder = local_folder(model)
    if folder is None:
        return RewardSource(hub_name=model)
    read_sizes(folder)
    weights_file(folder)
    return RewardSource(folder)


def weights_file(folder: Path) -> Path:
    """Raises `VlfilterError` when there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise VlfilterError(f"{folder} has no weights of ImageReward (looked for {', '.join(WEIGHTS)}).")


def vocabulary_file(folder: Path) -> Path:
    """The folder's own, else BERT's."""
    own = folder / VOCABULARY
    return own if own.is_file() else hub_file(BERT, VOCABULARY)


def read_sizes(folder: Path) -> RewardSizes:
    """Raises `VlfilterError` naming the file and the field that describe no such model."""
    path = folder / "config.json"
    vision = _sizes(VisionSizes, read_json(path) if path.is_file() else {}, path)
    text = _sizes(TextSizes, read_json(folder / TEXT_CONFIG), folder / TEXT_CONFIG)
    for width, heads, where in (
        (vision.vision_width, vision.vision_heads, path),
        (text.hidden_size, text.num_attention_heads, folder / TEXT_CONFIG),
    ):
        if width % heads:
            raise VlfilterError(f"{where} describes no ImageReward: {heads} heads do not divide {width}.")
    return RewardSizes(vision, text)


def size_files(sizes: RewardSizes) -> dict[str, dict[str, Any]]:
    """The configuration files that `read_sizes` reads, by name."""
    return {"config.json": asdict(sizes.vision), TEXT_CONFIG: {"model_type": "bert", **asdict(sizes.text)}}


def _sizes(kind: type[Sizes], given: Mapping[str, Any], path: Path) -> Sizes:
    values = {field.name: given.get(field.name, field.default) for field in fields(kind)}
    for field in fields(kind):
        value, usual = values[field.name], field.default
        if type(value) is not type(usual) or (isinstance(value, int | float) and value <= 0):
            raise VlfilterError(f"{path} describes no ImageReward: {field.name} is {value!r}.")
    return kind(**values)
