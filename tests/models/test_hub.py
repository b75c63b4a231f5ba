"""Hub names, with a cache as the hub's client leaves it and no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from PIL import Image

from vlfilter.data.samples import ImageText
from vlfilter.errors import VlfilterError
from vlfilter.models.digests import model_digest
from vlfilter.models.folders import model_folder
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.unifilter import UniFilter

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"
MODEL_COMMIT, TOWER_COMMIT = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"


def _publish(cache: Path, name: str, commit: str, files: Path) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(files, repository / "snapshots" / commit)
    return repository / "snapshots" / commit


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = _publish(tmp_path, "owner/model", MODEL_COMMIT, FIXTURE)
    shutil.rmtree(folder / "siglip-tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mm_vision_tower": "owner/tower"}))
    _publish(tmp_path, "owner/tower", TOWER_COMMIT, FIXTURE / "siglip-tiny")
    return tmp_path


@pytest.fixture(autouse=True)
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the client reads its environment once, on import, so the constants are what can still be changed
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("VLFILTER_CACHE", str(cache / "own"))


def score(model: str) -> tuple[float, dict[str, Any]]:
    scorer = UniFilter(ScorerSettings(model, device="cpu", compat="original"))
    scorer.load()
    prepared = scorer.prepare(ImageText(Image.new("RGB", (64, 48), "red"), "a red picture"))
    return scorer.score([prepared])["quality_score"][0], scorer.fingerprint()


def test_a_model_and_its_tower_by_name() -> None:
    (by_name, parts), (local, _) = score("owner/model"), score(str(FIXTURE))
    assert by_name == local
    assert (parts["model"], parts["vision"]) == (f"hub:owner/model@{MODEL_COMMIT}", f"hub:owner/tower@{TOWER_COMMIT}")


def test_what_the_cache_lacks_is_told() -> None:
    for call in (model_folder, model_digest):
        with pytest.raises(VlfilterError, match="'owner/other' is neither a local folder nor in the hub's cache"):
            call("owner/other")
