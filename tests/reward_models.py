"""Small ImageReward checkpoints for tests: the parity fixture's, in the published layout."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

import torch
from safetensors.torch import load_file

FIXTURE = Path(__file__).parent / "fixtures" / "image_reward"
LETTERS = string.ascii_lowercase + string.digits
# 62 words and BLIP's two tokens make the 64 of the fixture's vocabulary
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeinorst"),
         "cat", "dog", "red", "blue", "##s", "photo", "of", "on", "the", "user", "assistant", ":", ",", ".", "[", "]",
         "!", "?", "1", "2", "##ing", "##ly", "漢"]  # fmt: skip
VOCABULARY = "".join(f"{word}\n" for word in dict.fromkeys(WORDS))


def fixture_folder(folder: Path, *, published: bool = True) -> Path:
    """The fixture's weights as `ImageReward.pt` (or safetensors), with med_config.json, sizes and a vocabulary."""
    folder.mkdir(parents=True)
    config = json.loads((FIXTURE / "config.json").read_text())
    (folder / "med_config.json").write_text(json.dumps(config["med"]))
    vision = ("image_size", "patch_size", "vision_width", "vision_layers", "vision_heads")
    (folder / "config.json").write_text(json.dumps({name: config[name] for name in vision}))
    (folder / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    if published:
        torch.save(load_file(FIXTURE / "state_dict.safetensors"), folder / "ImageReward.pt")
    else:
        shutil.copy(FIXTURE / "state_dict.safetensors", folder / "model.safetensors")
    return folder
