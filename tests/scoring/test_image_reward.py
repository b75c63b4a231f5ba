"""The image_reward scorer: neighbours, broken samples in a shard, settings."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import pair, picture, tar_bytes
from tests.reward_models import fixture_folder
from vlfilter.data.samples import ImageText, Interleaved, SampleError, Status
from vlfilter.data.shards import list_shards
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.models.image_reward import load_image_reward, normalise_as_published
from vlfilter.models.preprocess import to_pixels
from vlfilter.scoring.base import Scorer, ScorerSettings, make_scorer
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.image_reward import ImageRewardScore
from vlfilter.scoring.runner import BatchRunner

CAPTIONS = ["a red dog", "", "a photo of the cat on the dog, 1 2!", "cat " * 60, "漢字 user: [SEP]", "x" * 3000]
SIZES = [(64, 48), (33, 90), (32, 32), (301, 200), (5, 7), (400, 300)]
PAIRS = [ImageText(picture(i, size), caption) for i, (size, caption) in enumerate(zip(SIZES, CAPTIONS, strict=True))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture_folder(tmp_path_factory.mktemp("models") / "reward", published=False)


def make(folder: Path, **changes: Any) -> ImageRewardScore:
    scorer = ImageRewardScore(ScorerSettings(str(folder), device="cpu", **changes))
    scorer.load()
    return scorer


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ImageRewardScore:
    return make(folder)


def scores(scorer: ImageRewardScore, pairs: list[ImageText]) -> list[float]:
    found: list[float] = list(scorer.score([scorer.prepare(pair) for pair in pairs])["image_reward"])
    return found


def test_it_is_a_scorer(scorer: ImageRewardScore) -> None:
    assert isinstance(scorer, Scorer)
    assert set(scorer.score([scorer.prepare(PAIRS[0])])) == set(scorer.columns.names)


def test_scores_are_the_model_s_of_unpadded_text(scorer: ImageRewardScore, folder: Path) -> None:
    """Padding counts for nothing: ids of their own length, one by one, give the same."""
    model = load_image_reward(str(folder))
    expected = []
    for content in PAIRS:
        ids, length, _ = model.words(content.caption)
        pixels = normalise_as_published([to_pixels(content.image, model.images)], model.images, "cpu")
        with torch.inference_mode():
            row = torch.tensor([ids[:length]])
            expected.append(model.rewards(pixels, row, torch.ones_like(row)).item())
    assert scores(scorer, PAIRS) == pytest.approx(expected, abs=1e-4)
    assert len({round(score, 2) for score in expected}) == len(PAIRS)


def test_neighbours_never_change_a_score(scorer: ImageRewardScore) -> None:
    alone = [scores(scorer, [content])[0] for content in PAIRS]
    assert scores(scorer, PAIRS * 3) == pytest.approx(alone * 3, abs=1e-4)


def test_long_captions_are_flagged(scorer: ImageRewardScore) -> None:
    flags = scorer.score([scorer.prepare(content) for content in PAIRS])["truncated"]
    assert flags == [False, False, False, True, False, False]


def test_threads_prepare_what_one_thread_prepares(scorer: ImageRewardScore) -> None:
    pairs = [ImageText(PAIRS[n % 6].image, f"cat {n} dogs " * (n % 20)) for n in range(120)]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(scorer.prepare, pairs))
    assert [p.payload.ids for p in threaded] == [scorer.prepare(content).payload.ids for content in pairs]


def test_documents_are_not_scored(scorer: ImageRewardScore) -> None:
    with pytest.raises(SampleError, match="not a document") as caught:
        scorer.prepare(Interleaved(("a",), (None,), (None,)))
    assert caught.value.status == Status.UNSUPPORTED


def test_compat_original_reads_special_tokens(scorer: ImageRewardScore, folder: Path) -> None:
    content = ImageText(picture(), "a cat [SEP] dog")
    plain, original = scores(scorer, [content]), scores(make(folder, compat="original"), [content])
    assert abs(plain[0] - original[0]) > 1e-3


def test_bfloat16_is_near(scorer: ImageRewardScore, folder: Path) -> None:
    half = scores(make(folder, dtype="bfloat16"), PAIRS)
    assert half == pytest.approx(scores(scorer, PAIRS), abs=0.5)  # the fixture's rewards spread over several units


def test_a_shard_with_broken_samples_keeps_a_row_for_each(scorer: ImageRewardScore, tmp_path: Path) -> None:
    samples = [
        ("0", pair("0", "a red dog")),
        ("1", pair("1", "a cat", image=b"\xff\xd8\xff not a jpeg")),
        ("2", {"txt": b"no image"}),
        ("3", pair("3", "the cat on the dog")),
    ]
    (tmp_path / "00000.tar").write_bytes(tar_bytes(samples))
    (shard,) = list_shards(str(tmp_path / "00000.tar"))
    (result,) = score_shard(shard, [BatchRunner(scorer, 8192)], str(tmp_path / "out"), EngineSettings())
    rows = pq.read_table(result.url).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "corrupt_image", "missing_image", "ok"]
    assert [row["image_reward"] is None for row in rows] == [False, True, True, False]
    assert rows[0]["image_reward"] != rows[3]["image_reward"]


def test_a_reward_that_is_no_number_fails_the_sample(tmp_path: Path) -> None:
    folder = fixture_folder(tmp_path / "m", published=False)
    state = load_file(folder / "model.safetensors")
    state["mlp.layers.7.bias"].fill_(float("nan"))
    save_file(state, folder / "model.safetensors")
    with pytest.raises(SampleError, match="not a number"):
        scores(make(folder), PAIRS[:1])


@pytest.mark.parametrize("changes", [{"compat": "orignal"}, {"dtype": "int8"}, {"options": {"a": 1}}], ids=str)
def test_wrong_settings_are_refused_at_once(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(VlfilterError):
        ImageRewardScore(ScorerSettings(str(folder), **changes))


def test_the_fingerprint_tells_what_changes_a_score(folder: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"dtype": "float16"}, {"compat": "original"}]
    prints = {digest(ImageRewardScore(ScorerSettings(str(folder), **given)).fingerprint()) for given in settings}
    assert len(prints) == 3


def test_checking_and_fingerprinting_need_no_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom vlfilter.scoring.image_reward import ImageRewardScore\n"
        "from vlfilter.scoring.base import ScorerSettings\n"
        f"ImageRewardScore(ScorerSettings({str(folder)!r})).fingerprint()\n"
        "print([m for m in ('torch', 'transformers', 'open_clip') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_it_is_found_by_name(folder: Path) -> None:
    assert isinstance(make_scorer("image_reward", ScorerSettings(str(folder))), ImageRewardScore)
