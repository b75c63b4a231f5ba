"""Hub names, with a cache as the hub's client leaves it and no network. In processes of their own: the client reads
its cache's place once, on import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def run(cache: Path, code: str) -> str:
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "VLFILTER_CACHE": str(cache / "own")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_and_its_tower_by_name(cache: Path) -> None:
    out = run(
        cache,
        "import json\n"
        "from PIL import Image\n"
        "from vlfilter.data.samples import ImageText\n"
        "from vlfilter.scoring.base import ScorerSettings\n"
        "from vlfilter.scoring.unifilter import UniFilter\n"
        "def score(model):\n"
        "    scorer = UniFilter(ScorerSettings(model, device='cpu', compat='original'))\n"
        "    scorer.load()\n"
        "    prepared = scorer.prepare(ImageText(Image.new('RGB', (64, 48), 'red'), 'a red picture'))\n"
        "    return scorer.score([prepared])['quality_score'][0], scorer.fingerprint()\n"
        f"print(json.dumps([score('owner/model'), score({str(FIXTURE)!r})]))\n",
    )
    (by_name, parts), (local, _) = json.loads(out)
    assert by_name == local
    assert (parts["model"], parts["vision"]) == (f"hub:owner/model@{MODEL_COMMIT}", f"hub:owner/tower@{TOWER_COMMIT}")


def test_what_the_cache_lacks_is_told(cache: Path) -> None:
    out = run(
        cache,
        "from vlfilter.errors import VlfilterError\n"
        "from vlfilter.models.folders import model_folder\n"
        "try: model_folder('owner/other')\n"
        "except VlfilterError as error: print(error)\n",
    )
    assert out.startswith("model 'owner/other' is neither a local folder nor in the hub's cache")
