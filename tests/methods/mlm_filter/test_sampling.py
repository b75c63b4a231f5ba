from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.helpers import document, jpeg, make_tar, pair, png, uid_of
from vlfilter.data.images import decode_image
from vlfilter.data.storage import filesystem, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.clustering import find_candidates
from vlfilter.methods.mlm_filter.embedding import WordEmbedder, make_embedder
from vlfilter.methods.mlm_filter.pairs import read_pairs
from vlfilter.methods.mlm_filter.sampling import SampleSettings, sample_pairs

TOPICS = (
    "a red bus stands in a busy city street",
    "two dogs run over the snow field",
    "an old printed map of europe",
    "a portrait of a smiling woman",
)


def topic(number: int) -> int:
    """Nine tenths of the data are buses."""
    return 0 if number % 10 else number // 10 % len(TOPICS)


def sample(number: int, **changes: Any) -> tuple[str, dict[str, bytes]]:
    key = f"{number:09d}"
    return key, pair(key, **{"caption": f"{TOPICS[topic(number)]}", "image": jpeg(number, (16, 12)), **changes})


def run(root: str | Path, shards: str | None = None, **settings: Any) -> dict[str, Any]:
    return sample_pairs(
        shards or f"{root}/data",
        f"{root}/images",
        f"{root}/pairs.json",
        f"{root}/captions.parquet",
        SampleSettings(**{"pairs": 40, "clusters": 4, **settings}),
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for shard in range(4):
        make_tar(tmp_path / "data" / f"{shard:05d}.tar", [sample(n) for n in range(100 * shard, 100 * shard + 100)])
    return tmp_path


def test_the_quota_is_spread_evenly_over_kinds_of_captions(data: Path) -> None:
    summary = run(data)
    chosen = read_pairs(f"{data}/pairs.json")
    assert Counter(p.caption for p in chosen) == dict.fromkeys(TOPICS, 10)
    assert (summary["samples"], summary["pairs"], summary["problems"]) == (400, 40, {})
    assert sorted(c["captions"] for c in summary["clusters"]) == [10, 10, 10, 370]
    assert all(decode_image(read_bytes(f"{data}/images/{p.image}")).size == (16, 12) for p in chosen)


def test_what_short_clusters_lack_comes_from_the_others(data: Path) -> None:
    run(data, pairs=100)
    counts = Counter(p.caption for p in read_pairs(f"{data}/pairs.json"))
    assert counts == {TOPICS[0]: 70, TOPICS[1]: 10, TOPICS[2]: 10, TOPICS[3]: 10}


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_shards(data: Path) -> None:
    run(data)
    first = {p.id for p in read_pairs(f"{data}/pairs.json")}
    for number in range(4):  # the same samples under other shard names, in another order
        (data / "data" / f"{number:05d}.tar").rename(data / "data" / f"x{3 - number}.tar")
    run(data)
    assert {p.id for p in read_pairs(f"{data}/pairs.json")} == first
    run(data, seed=1)
    assert {p.id for p in read_pairs(f"{data}/pairs.json")} != first


def test_images_are_the_bytes_of_the_tar(data: Path) -> None:
    run(data)
    for chosen in read_pairs(f"{data}/pairs.json"):
        assert read_bytes(f"{data}/images/{chosen.image}") == jpeg(int(chosen.key), (16, 12))


def test_bad_samples_are_counted_and_replaced(tmp_path: Path) -> None:
    good = [sample(n) for n in range(30)]
    bad = [sample(n, image=b"no image") for n in range(100, 130)]
    odd = [
        ("nocaption", {"jpg": jpeg(1)}),
        ("noimage", {"txt": b"a caption"}),
        ("document", document(["text", None], [None, png(0)])),
        sample(7, uid=uid_of("000000007")),  # the same key again
        ("again", pair("again", caption=TOPICS[0], uid=uid_of("000000008"))),  # the same uid again
    ]
    make_tar(tmp_path / "data" / "0.tar", [*good, *bad, *odd])
    (tmp_path / "data" / "1.tar").write_bytes(b"this is no tar" * 100)
    summary = run(tmp_path, pairs=60)
    assert summary["pairs"] == 30
    assert summary["problems"] == {"corrupt_image": 30, "missing_image": 1, "missing_text": 1, "unsupported": 3}
    assert [line for line in summary["broken_shards"] if "1.tar" in line] == summary["broken_shards"] != []
    assert {p["status"] for p in summary["unusable"]} == {"corrupt_image", "unsupported"}
    scanned = pq.read_table(tmp_path / "captions.parquet")
    assert scanned.num_rows == summary["samples"] == 65
    assert all(row["reason"] for row in scanned.to_pylist() if row["status"] != "ok")


def test_a_finished_step_reads_nothing_and_a_missing_image_is_fetched_again(data: Path) -> None:
    summary = run(data)
    stamp = (data / "pairs.json").stat().st_mtime_ns
    (data / "captions.parquet").unlink()
    assert run(data) == summary
    assert not (data / "captions.parquet").exists()
    assert (data / "pairs.json").stat().st_mtime_ns == stamp
    lost = data / "images" / read_pairs(f"{data}/pairs.json")[3].image
    lost.unlink()
    run(data)
    assert lost.is_file()


def test_a_changed_tar_is_sampled_anew(data: Path) -> None:
    run(data)
    make_tar(data / "data" / "00004.tar", [sample(n, caption="a bowl of fresh green salad") for n in range(900, 940)])
    assert run(data)["samples"] == 440


def test_memory_keeps_only_candidates_and_still_finds_the_first(data: Path) -> None:
    run(data)
    many = find_candidates(f"{data}/captions.parquet", WordEmbedder(0), 4, 0, keep=1000)
    few = find_candidates(f"{data}/captions.parquet", WordEmbedder(0), 4, 0, keep=5)
    assert many.sizes == few.sizes
    assert len(few.row) == 20
    for label in range(4):
        assert few.row[few.label == label].tolist() == many.row[many.label == label][:5].tolist()


def test_fewer_captions_than_clusters(tmp_path: Path) -> None:
    make_tar(tmp_path / "data" / "0.tar", [sample(n, caption="the same words") for n in range(5)])
    assert run(tmp_path, pairs=3, clusters=10)["pairs"] == 3


def test_no_usable_sample_is_one_clear_error(tmp_path: Path) -> None:
    make_tar(tmp_path / "data" / "0.tar", [("k", {"jpg": jpeg(1)})])
    with pytest.raises(VlfilterError, match="none of the samples is an image with a caption"):
        run(tmp_path)
    make_tar(tmp_path / "data" / "0.tar", [sample(n, image=b"broken") for n in range(3)])
    with pytest.raises(VlfilterError, match="none of the images can be used: no JPEG"):
        run(tmp_path)
    (tmp_path / "data" / "0.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(VlfilterError, match="none of the 1 shards can be read"):
        run(tmp_path)


def test_the_whole_on_object_storage(data: Path, s3: str) -> None:
    fs, _ = filesystem(s3)
    for shard in sorted((data / "data").iterdir()):
        fs.pipe_file(f"{s3}/data/{shard.name}", shard.read_bytes())
    assert run(s3)["pairs"] == 40
    run(data)
    assert [p.id for p in read_pairs(f"{s3}/pairs.json")] == [p.id for p in read_pairs(f"{data}/pairs.json")]
    stamp = fs.info(f"{s3}/pairs.json")["LastModified"]
    assert run(s3)["pairs"] == 40
    assert fs.info(f"{s3}/pairs.json")["LastModified"] == stamp


def test_a_clip_embeds_where_one_is_given(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from vlfilter.models.clip import save_clip
    from vlfilter.models.clip_text import openai_tokenizer
    from vlfilter.models.presets import build_clip, clip_images

    tokenizer = openai_tokenizer()
    folder = tmp_path_factory.mktemp("clip") / "clip"
    save_clip(folder, build_clip("clip_tiny", tokenizer), tokenizer, clip_images("clip_tiny"))
    vectors = make_embedder(str(folder), 0, "cpu")([*TOPICS, TOPICS[0]])
    assert vectors.shape[0] == 5
    assert vectors[0] @ vectors[4] == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] < 0.999
    assert run(data, model=str(folder), device="cpu")["pairs"] == 40
    chosen = json.loads((data / "pairs.json").read_text())
    assert len({row["caption"] for row in chosen}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a JSON list of pairs"),
        ("[1]", "row 0 is not an object"),
        ('[{"id": "a", "image": "a.jpg"}]', "row 0 has no caption"),
        ('[{"id": "a", "image": "a.jpg", "caption": "x"}, {"id": "a", "image": "b.jpg", "caption": "y"}]', "id 'a'"),
        ("nonsense", "is not a JSON file"),
    ],
)
def test_a_list_of_pairs_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(VlfilterError, match=message):
        read_pairs(str(tmp_path / "pairs.json"))
