"""The README's commands, run as they stand there: on a bucket of small tars, with tiny models under the names there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.commands import ROOT, Shown, commands
from tests.helpers import jpeg, make_tar, pairs
from vlfilter.data.storage import write_bytes
from vlfilter.models.clip import save_clip
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.presets import build_clip, clip_images

FIXTURES = ROOT / "tests" / "fixtures"
README = [shown for shown in commands(ROOT / "README.md") if shown.words[0] == "vlfilter"]
# what runs here is proved elsewhere: these want a GPU, published weights or a paid teacher
ELSEWHERE = ("finetune", "run", "demo", "evaluate", "minigpt-v2", "data-engine", "doctor", "retry", "datasets")


@pytest.fixture
def world(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A bucket with two tars, the models, photo.jpg; returns what stands in place of the README's names."""
    for number in range(2):
        tar = tmp_path / f"{number:05d}.tar"
        make_tar(tar, pairs(12, 12 * number))
        write_bytes(f"{s3}/data/{tar.name}", tar.read_bytes())
    save_clip(tmp_path / "clip", build_clip("clip_tiny"), openai_tokenizer(), clip_images("clip_tiny"))
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none-is-needed-to-be-told-a-price")
    return {
        "s3://bucket": s3,
        "{00000..00099}": "{00000..00001}",
        "weizhiwang/UniFilter-Qwen2.5-1.5B": str(FIXTURES / "unifilter"),
        "open_clip:ViT-B-32/laion2b_s34b_b79k": str(tmp_path / "clip"),
        "weizhiwang/mlm-filter-qwen2.5-1.5b-gpt4o": str(FIXTURES / "mlm_filter"),
        "000000120034": "000000003",
        "--device cuda": "--device cpu",
    }


def run(shown: Shown, world: dict[str, str], folder: Path) -> str:
    line = shlex.join(shown.words)
    for name, place in world.items():
        line = line.replace(name, place)
    vlfilter, *rest = shlex.split(line)
    done = subprocess.run(
        [str(Path(sys.executable).parent / vlfilter), *rest],
        cwd=folder, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_readme_s_commands_run_one_after_the_other(world: dict[str, str], tmp_path: Path) -> None:
    here = [shown for shown in README if shown.words[1] not in ELSEWHERE and shown.words[2] not in ELSEWHERE]
    done = [(shown.words[1], run(shown, world, tmp_path)) for shown in here if "self-filter" not in shown.words]
    assert {"score", "status", "select", "reshard", "report", "explain", "judge"} <= {name for name, _ in done}
    assert (tmp_path / "kept.npy").stat().st_size > 0
    assert "<html" in (tmp_path / "report.html").read_text().lower()
    for scorer in ("unifilter", "clip_score", "mlm_filter"):
        from vlfilter.data.storage import filesystem

        fs, place = filesystem(f"{world['s3://bucket']}/scores/{scorer}")
        tables = sorted(path for path in fs.find(place) if path.endswith(".parquet"))
        rows = [pq.read_table(fs.open(table)).num_rows for table in tables]
        assert rows == [12, 12]
