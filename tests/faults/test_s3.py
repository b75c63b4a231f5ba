"""An S3 that fails in every way that one does: the scores are those of a healthy one, or there is one clear error and
no table; what was written before it stays, and the next run ends as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from botocore.exceptions import BotoCoreError, ClientError

from tests.conftest import _forget_connections
from tests.faults.s3_proxy import Asked, Fault, S3Proxy
from tests.helpers import noise_jpeg, pair, tar_bytes
from tests.toy import NAME
from vlfilter.data import storage
from vlfilter.data.shards import list_shards
from vlfilter.data.storage import filesystem, write_bytes
from vlfilter.errors import ShardError, VlfilterError
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run

SHARDS, SAMPLES = 3, 5


@pytest.fixture
def proxy(s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Everything goes through it, and retries come quickly."""
    made = S3Proxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
    retries = {"retries": {"max_attempts": 2, "mode": "standard"}, "connect_timeout": 5, "read_timeout": 5}
    monkeypatch.setitem(storage.S3_OPTIONS, "config_kwargs", retries)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    _forget_connections()
    yield made
    _forget_connections()
    made.stop()


@pytest.fixture
def params(s3: str, tmp_path: Path) -> ScoreParams:
    """Shards of some 150 kB in the bucket."""
    for shard in range(SHARDS):
        keys = [f"{shard}{i:03d}" for i in range(SAMPLES)]
        samples = [(key, pair(key, image=noise_jpeg(int(key)))) for key in keys]
        write_bytes(f"{s3}/data/{shard:05d}.tar", tar_bytes(samples))
    (tmp_path / "toy.txt").write_text("1.0")
    model = {NAME: str(tmp_path / "toy.txt")}
    return ScoreParams(shards=f"{s3}/data", output=f"{s3}/out", scorer=[NAME], model=model)


def score_all(params: ScoreParams) -> list[str]:
    """What came to grief, one message a shard; raises what planning does."""
    told = []
    for work in plan_run(params).work:
        try:
            score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
        except (VlfilterError, OSError) as error:
            told.append(str(error))
    return told


def tables(params: ScoreParams) -> dict[str, pa.Table]:
    fs, path = filesystem(params.output)
    found = fs.find(path) if fs.exists(path) else []
    return {
        name.rsplit("/", 1)[1]: pq.read_table(pa.BufferReader(fs.cat_file(name))).replace_schema_metadata(None)
        for name in found
        if name.rsplit("/", 1)[1] in [f"{shard:05d}.parquet" for shard in range(SHARDS)]
    }


def undisturbed(params: ScoreParams, proxy: S3Proxy) -> dict[str, pa.Table]:
    """Through the same proxy, which passes everything on."""
    proxy.fault = lambda _: None
    assert score_all(params) == []
    found = tables(params)
    start_again(params)
    assert len(found) == SHARDS
    assert all(table["status"].to_pylist() == ["ok"] * SAMPLES for table in found.values())
    proxy.seen.clear()
    return found


def first(times: int, kind: str, method: str = "GET", part: str = "/data/0") -> Fault:
    """A fault of the first requests of a kind."""
    left = [times]

    def fault(asked: Asked) -> str | None:
        if asked.method == method and part in asked.path and asked.is_object and left[0]:
            left[0] -= 1
            return kind
        return None

    return fault


def start_again(params: ScoreParams) -> None:
    fs, path = filesystem(params.output)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def test_passing_faults_change_nothing(proxy: S3Proxy, params: ScoreParams) -> None:
    expected = undisturbed(params, proxy)
    for kind, method, part in (
        ("503", "GET", "/data/0"), ("slow", "GET", "/data/0"), ("lost", "PUT", "/out/"),
    ):  # fmt: skip
        proxy.fault = first(1, kind, method, part)
        assert score_all(params) == [], (kind, method)
        assert proxy.faults() == [kind]
        proxy.fault = lambda _: None
        assert tables(params) == expected, (kind, method)
        start_again(params)
        proxy.seen.clear()


def test_a_read_that_keeps_failing_fails_its_shard_and_leaves_no_table(proxy: S3Proxy, params: ScoreParams) -> None:
    """`short` is the worst: half of the tar, in an answer that says that this is all of it."""
    expected = undisturbed(params, proxy)
    for kind in ("short", "reset", "long-promise", "503"):
        proxy.fault = first(10_000, kind, part="/data/00001")
        [message] = score_all(params)
        assert "00001.tar" in message, message
        assert kind in proxy.faults()
        proxy.fault = lambda _: None
        assert tables(params) == {name: table for name, table in expected.items() if name != "00001.parquet"}
        assert score_all(params) == []
        assert tables(params) == expected
        start_again(params)


def test_a_table_that_cannot_be_written_is_not_there(proxy: S3Proxy, params: ScoreParams) -> None:
    expected = undisturbed(params, proxy)
    proxy.fault = first(10_000, "503", "PUT", "/out/toy/00001")
    assert len(score_all(params)) == 1
    proxy.fault = lambda _: None
    assert tables(params) == {name: table for name, table in expected.items() if name != "00001.parquet"}
    assert score_all(params) == []
    assert tables(params) == expected


def test_a_listing_that_lags_behind_costs_work_and_nothing_else(
    proxy: S3Proxy, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its last entry a finished table is made again, and comes out the same."""
    monkeypatch.setattr("vlfilter.data.states.FEW", 0)  # as with many shards, which are told by a listing
    expected = undisturbed(params, proxy)
    score_all(params)
    proxy.fault = lambda asked: "stale" if "prefix=out" in asked.path else None
    again = [work.shard.name for work in plan_run(params).work]
    assert 1 <= len(again) < SHARDS
    assert score_all(params) == []
    proxy.fault = lambda _: None
    assert tables(params) == expected
    proxy.fault = lambda asked: "stale" if "prefix=data" in asked.path else None
    assert len(list_shards(params.shards)) == SHARDS - 1  # nobody can know of the other
    proxy.fault = lambda _: None
    assert plan_run(params).work == []


def test_an_object_that_is_gone_since_it_was_listed(proxy: S3Proxy, params: ScoreParams) -> None:
    work = plan_run(params).work
    proxy.fault = lambda asked: "gone" if "/data/00002" in asked.path else None
    with pytest.raises(ShardError, match=r"00002\.tar does not exist"):
        score_shard(work[2].shard, load_runners(params, ["toy"]), params.output, EngineSettings())
    assert tables(params) == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_faults_of_every_kind_at_random(proxy: S3Proxy, params: ScoreParams, seed: int) -> None:
    """However often it takes: at no time is there a table that differs from the undisturbed one."""
    expected = undisturbed(params, proxy)
    rng = random.Random(seed)
    kinds = ("503", "reset", "short", "long-promise", "slow", "lost", "stale")

    def fault(asked: Asked) -> str | None:
        kind = rng.choice(kinds) if rng.random() < 0.4 else None
        if kind in ("reset", "short", "long-promise") and (asked.method != "GET" or not asked.is_object):
            return None  # of a listing botocore itself makes an error
        return None if kind == "lost" and asked.method != "PUT" else kind

    told: list[str] = []
    for _ in range(8):
        proxy.fault = fault
        try:
            told += score_all(params)
        except (VlfilterError, OSError, BotoCoreError, ClientError) as error:  # no plan could be made
            told.append(str(error))
        proxy.fault = lambda _: None
        found = tables(params)
        assert found == {name: expected[name] for name in found}
        if found == expected:
            start_again(params)
    assert score_all(params) == []
    assert tables(params) == expected
    assert len(set(proxy.faults())) >= 5
    assert all(told)
