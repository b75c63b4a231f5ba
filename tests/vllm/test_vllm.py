"""A tiny LLaVA exported, served by a real vLLM, and scored through it: the same numbers as in this process.

`make test-vllm` installs vLLM's build for CPUs (a third party's) into an environment of its own and runs these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.helpers import jpeg, make_tar, pair
from tests.models import hf
from tests.vllm.server import PYTHON, Server, serve
from vlfilter.data.shards import list_shards
from vlfilter.data.tables import open_parquet
from vlfilter.errors import ServerError, VlfilterError
from vlfilter.models.hf_layout import export_hf
from vlfilter.scoring import vllm_client
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import METRICS
from vlfilter.scoring.runner import BatchRunner

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON.is_file(), reason="vLLM is not installed in .venv-vllm: run `make test-vllm`"),
]

KEY = "of-the-test"
CAPTIONS = [
    "a red bus in London",
    ".",
    "漢字 and 100",
    "an <image> that is none",
    "words " * 120,
    "7",
    "a dog\nin snow",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vllm")
    hf.save(root / "published", *hf.build())
    return export_hf(str(root / "published"), root / "tiny")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serve(folder, folder.parent / "server.log", KEY) as running:
        yield running


@pytest.fixture
def shard(tmp_path: Path) -> str:
    sizes = [(24, 24), (60, 31), (31, 60), (200, 150), (25, 24), (16, 16), (90, 90)]
    samples = [
        (f"{i}", pair(f"{i}", caption, jpeg(i, size)))
        for i, (caption, size) in enumerate(zip(CAPTIONS, sizes, strict=True))
    ]
    samples += [("broken", pair("broken", "a cat", b"no image")), ("control", pair("control", "it is </s> over"))]
    return str(make_tar(tmp_path / "shards" / "0.tar", samples))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vllm_client.KEY, KEY)


def scorer(folder: Path, server: Server | None, **options: Any) -> MlmFilter:
    where = {"backend": "vllm", "base_url": server.url} if server else {}
    made = MlmFilter(
        ScorerSettings(
            str(folder), device="cpu", dtype="float32", options={"caption_max_tokens": 100, **where, **options}
        )
    )
    made.load()
    return made


def table(made: MlmFilter, shard: str, output: Path) -> pa.Table:
    (one,) = list_shards(shard)
    (result,) = score_shard(one, [BatchRunner(made, 8192)], str(output), EngineSettings())
    return open_parquet(result.url).read()


@pytest.mark.parametrize("image_mode", ["processor", "pad"])
def test_expected_scores_are_those_of_the_transformers_backend(
    folder: Path, server: Server, shard: str, tmp_path: Path, image_mode: str
) -> None:
    ours = table(scorer(folder, None, image_mode=image_mode), shard, tmp_path / "here").to_pylist()
    theirs = table(scorer(folder, server, image_mode=image_mode), shard, tmp_path / "there").to_pylist()
    assert [row["status"] for row in ours] == [*["ok"] * 7, "corrupt_image", "ok"]
    assert [row["status"] for row in theirs] == [*["ok"] * 7, "corrupt_image", "unsupported"]
    assert "control token" in theirs[-1]["reason"]
    for here, there in zip(ours[:7], theirs[:7], strict=True):
        assert here["truncated"] == there["truncated"] == (here["key"] == "4")
        for metric in METRICS:
            assert there[f"{metric}_score"] == pytest.approx(here[f"{metric}_score"], abs=1e-3)
            assert there[f"{metric}_entropy"] == pytest.approx(here[f"{metric}_entropy"], abs=1e-4)
            assert there[f"{metric}_answer"] == here[f"{metric}_answer"]
    assert len({round(row[f"{metric}_score"], 2) for row in ours[:7] for metric in METRICS}) > 20


def test_greedy_answers_are_those_of_the_transformers_backend(
    folder: Path, server: Server, shard: str, tmp_path: Path
) -> None:
    ours = table(scorer(folder, None, answer="greedy"), shard, tmp_path / "here").to_pylist()
    theirs = table(scorer(folder, server, answer="greedy"), shard, tmp_path / "there").to_pylist()
    assert theirs[:7] == ours[:7]
    assert any(row[f"{metric}_answer"] is not None for row in theirs[:7] for metric in METRICS)


def test_the_published_folder_names_the_same_model(folder: Path, server: Server, shard: str, tmp_path: Path) -> None:
    published = folder.parent / "published"
    with pytest.raises(VlfilterError, match=r"does not serve .*published; it has tiny"):
        scorer(published, server)
    exported = table(scorer(folder, server), shard, tmp_path / "exported").to_pylist()
    named = table(scorer(published, server, served_model="tiny"), shard, tmp_path / "published").to_pylist()
    assert named == exported


def test_a_server_that_is_not_ours_to_use(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vllm_client.KEY, "another")
    with pytest.raises(VlfilterError, match="refuses the key in VLLM_API_KEY"):
        scorer(folder, server)
    monkeypatch.setenv(vllm_client.KEY, KEY)
    with pytest.raises(VlfilterError, match="--max-model-len"):
        scorer(folder, server, caption_max_tokens=1000)


def test_a_server_that_is_killed_half_way(
    folder: Path, server: Server, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last: the server is gone afterwards."""
    monkeypatch.setattr(vllm_client, "PAUSE", 0.01)
    made = scorer(folder, server)
    table(made, shard, tmp_path / "out")
    server.stop()
    with pytest.raises(ServerError, match="stopped answering"):
        table(made, shard, tmp_path / "other")
    assert (tmp_path / "out" / "mlm_filter" / "0.parquet").is_file()
    assert not (tmp_path / "other").exists()
    with pytest.raises(VlfilterError, match="no server answers"):
        scorer(folder, server)
