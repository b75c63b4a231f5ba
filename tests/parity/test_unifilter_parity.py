"""UniFilter against numbers that the original code gave (see the fixture's expected.json; made on CPU in float32)."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.data.shards import list_shards
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.runner import BatchRunner
from vlfilter.scoring.unifilter import UniFilter

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"


@pytest.fixture(scope="module")
def scorer() -> UniFilter:
    made = UniFilter(ScorerSettings(str(FIXTURE), device="cpu", compat="original"))
    made.load()
    return made


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())
    return values


def captions() -> list[ImageText]:
    with tarfile.open(FIXTURE / "00000000.tar") as tar:
        data = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    keys = sorted({name.split(".")[0] for name in data})
    return [
        ImageText(Image.open(io.BytesIO(data[f"{key}.png"])).convert("RGB"), data[f"{key}.txt"].decode())
        for key in keys
    ]


def document(published: dict[str, Any]) -> Interleaved:
    images = [
        Image.open(io.BytesIO(base64.b64decode(slot["image_base64"]))).convert("RGB") if slot else None
        for slot in published["image_info"]
    ]
    return Interleaved(tuple(published["texts"]), tuple(images), (None,) * len(images))


def test_captions_in_one_batch(scorer: UniFilter, expected: dict[str, Any]) -> None:
    scores = scorer.score([scorer.prepare(pair) for pair in captions()])["quality_score"]
    assert scores == pytest.approx([row[0] for row in expected["caption_logits_batched"]], abs=1e-4)


def test_captions_one_by_one(scorer: UniFilter, expected: dict[str, Any]) -> None:
    scores = [scorer.score([scorer.prepare(pair)])["quality_score"][0] for pair in captions()]
    assert scores == pytest.approx([row[0] for row in expected["caption_logits_single"]], abs=1e-4)


def test_interleaved_ids_and_scores(scorer: UniFilter, expected: dict[str, Any]) -> None:
    prepared = [scorer.prepare(document(published)) for published in expected["interleaved_docs"]]
    assert [p.payload.ids.tolist() for p in prepared] == expected["interleaved_input_ids"]
    alone = [scorer.score([p])["quality_score"][0] for p in prepared]
    together = scorer.score(prepared)["quality_score"]
    wanted = [row[0] for row in expected["interleaved_logits"]]
    assert alone == pytest.approx(wanted, abs=1e-4)
    assert together == pytest.approx(wanted, abs=1e-4)


def test_captions_and_documents_share_a_batch(scorer: UniFilter, expected: dict[str, Any]) -> None:
    mixed = [scorer.prepare(captions()[0]), scorer.prepare(document(expected["interleaved_docs"][1]))]
    wanted = [expected["caption_logits_single"][0][0], expected["interleaved_logits"][1][0]]
    assert scorer.score(mixed)["quality_score"] == pytest.approx(wanted, abs=1e-4)


def test_only_the_long_caption_is_flagged(scorer: UniFilter) -> None:
    columns = scorer.score([scorer.prepare(pair) for pair in captions()])
    assert columns["truncated"] == [False] * 5 + [True]
    assert columns["n_images"] == [1] * 6
    assert max(columns["n_tokens"]) == 75 + 3  # four image tokens in place of one placeholder


def test_a_whole_tar_through_the_engine(scorer: UniFilter, expected: dict[str, Any], tmp_path: Path) -> None:
    """The reader gives an empty caption a row without a score; the original scored it (see the batch above)."""
    (shard,) = list_shards(str(FIXTURE / "00000000.tar"))
    (result,) = score_shard(shard, [BatchRunner(scorer, 200)], str(tmp_path), EngineSettings())
    table = pq.read_table(result.url)
    assert table["status"].to_pylist() == ["ok", "ok", "ok", "missing_text", "ok", "ok"]
    rows = zip(table["quality_score"].to_pylist(), expected["caption_logits_batched"], strict=True)
    scored, wanted = zip(*[(score, row[0]) for score, row in rows if score is not None], strict=True)
    assert scored == pytest.approx(wanted, abs=1e-4)
    assert table.select(scorer.columns.names).schema.remove_metadata() == scorer.columns
