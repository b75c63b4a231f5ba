"""Which CLIP a name means, checked without torch: a transformers checkpoint or an open_clip model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlfilter.errors import VlfilterError
from vlfilter.models.digests import files_digest, hub_commit, model_digest
from vlfilter.models.folders import is_hub_name, local_folder, read_json, tokenizer_files, weight_files

OPEN_CLIP = "open_clip:"
OPEN_CLIP_CONFIG = "open_clip_config.json"
# as open_clip itself chooses among them
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)


@dataclass(frozen=True, slots=True)
class ClipSource:
    """`name` is a folder or hub name of a transformers checkpoint, or open_clip's own name for its model.

    `architecture` and `pretrained` are open_clip's: a built-in architecture with the tag of its weights, or
    `local-dir:/folder` or `hf-hub:owner/name` with no tag.
    """

    name: str
    architecture: str = ""
    pretrained: str | None = None

    @property
    def is_open_clip(self) -> bool:
        return bool(self.architecture)

    def digest(self) -> str:
        """What tells these weights from others: content of local files, the commit of a hub name, the tag's name."""
        if not self.is_open_clip:
            return model_digest(self.name)
        schema, _, identifier = self.architecture.partition(":")
        if schema == "local-dir":
            folder = Path(identifier)
            texts = [path for path in folder.glob("*") if path.suffix in (".json", ".txt", ".model")]
            return files_digest([*texts, open_clip_weights(folder)])
        if schema == "hf-hub":
            return f"hub:{identifier}@{hub_commit(identifier)}"
        return f"open_clip:{self.architecture}/{self.pretrained}"


def clip_source(model: str) -> ClipSource:
    """The model that `model` names: `/folder`, `owner/name`, `open_clip:/folder`, `open_clip:hf-hub:owner/name` or
    `open_clip:ARCHITECTURE/TAG`.

    Raises `VlfilterError` when a local folder lacks something or the name has none of these forms.
    """
    if not model.startswith(OPEN_CLIP):
        folder = local_folder(model)
        if folder is not None:
            _check_transformers(folder)
        return ClipSource(model)
    name = model.removeprefix(OPEN_CLIP)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if "model_cfg" not in read_json(folder / OPEN_CLIP_CONFIG):
            raise VlfilterError(f"{folder / OPEN_CLIP_CONFIG} has no model_cfg: it is no open_clip model.")
        open_clip_weights(folder)
        return ClipSource(name, f"local-dir:{folder}")
    if name.startswith("hf-hub:") and is_hub_name(name.removeprefix("hf-hub:")):
        return ClipSource(name, name)
    architecture, slash, tag = name.partition("/")
    if architecture and slash and tag and "/" not in tag:
        return ClipSource(name, architecture, tag)
    raise VlfilterError(
        f"model {model!r}: there is no folder {name!r}, and it is not of the form open_clip:ARCHITECTURE/TAG "
        "(as open_clip:ViT-B-32/laion2b_s34b_b79k) or open_clip:hf-hub:OWNER/NAME."
    )


def open_clip_weights(folder: Path) -> Path:
    """The weights in an open_clip folder. Raises `VlfilterError` when there are none."""
    for name in OPEN_CLIP_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise VlfilterError(f"{folder} has no weights (looked for {', '.join(OPEN_CLIP_WEIGHTS)}).")


def _check_transformers(folder: Path) -> None:
    if not (folder / "config.json").is_file() and (folder / OPEN_CLIP_CONFIG).is_file():
        raise VlfilterError(f"{folder} is an open_clip model: write open_clip:{folder}.")
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        hint = " SigLIP models load through open_clip (open_clip:hf-hub:…)." if "siglip" in str(kind) else ""
        raise VlfilterError(f"{folder} is a model of type {kind!r}, not a CLIP.{hint}")
    weight_files(folder)
    tokenizer_files(folder)
