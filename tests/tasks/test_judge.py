"""The judge in a flow, against a real Prefect server."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from prefect import flow
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from tasks.judge import SharedLimiter, make_judge, secret_key, spending_table
from tests.llm.vendor import VendorServer
from vlfilter.llm.client import JudgeSettings
from vlfilter.llm.limits import LocalLimiter
from vlfilter.llm.types import Answer, Request

BLOCK_KEY = "sk-block-T4nQw8only0in0memory"


@pytest.fixture(autouse=True)
def no_limits(prefect_api: str) -> None:
    """The server may have those of `make deploy`."""
    with get_client(sync_client=True) as client:
        for limit in client.read_global_concurrency_limits(limit=200):
            if limit.name.startswith("judge-"):
                client.delete_global_concurrency_limit_by_name(limit.name)


def make_limit(name: str, limit: int, decay: float) -> None:
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=limit, active=True, slot_decay_per_second=decay)
        )


def slots(name: str) -> float:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(name).active_slots


def test_a_flow_asks_with_the_key_of_a_block(
    vendor: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    Secret(value=BLOCK_KEY).save("openai-api-key", overwrite=True, _sync=True)  # type: ignore[call-arg]
    settings = JudgeSettings("openai:gpt-4o", base_url=vendor.openai_url, cache=str(tmp_path), max_usd=1.0)

    @flow(name="judge-test")
    def grade() -> list[Answer]:
        with make_judge(settings) as judge:
            answers = judge.ask_all(
                [Request(f"q{i}", max_tokens=50, labels={"step": "grade", "shard": str(i % 2)}) for i in range(4)]
            )
            spending_table(judge.spending(), key="judge-test-spending")
        return answers

    with caplog.at_level(logging.WARNING):
        answers = grade()
    assert [answer.text for answer in answers] == [f"answer to q{i}" for i in range(4)]
    assert {seen.headers["authorization"] for seen in vendor.questions()} == {f"Bearer {BLOCK_KEY}"}
    warnings = [record.getMessage() for record in caplog.records if "no shared limit" in record.getMessage()]
    assert len(warnings) == 2  # requests and tokens, once each
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["judge-test-spending"]))
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
    rows = json.loads(artifact.data)
    assert [(row["step"], row["shard"], row["requests"], row["tokens in"]) for row in rows] == [
        ("grade", "all", "4", "400"),
        ("grade", "0", "2", "200"),
        ("grade", "1", "2", "200"),
    ]
    assert "spent" in (artifact.description or "")
    assert BLOCK_KEY not in caplog.text + artifact.data


def test_the_environment_goes_before_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-environment")
    assert secret_key("anthropic") is None
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert secret_key("anthropic") is None  # no such block: the judge says what to set
    Secret(value=BLOCK_KEY).save("anthropic-api-key", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert secret_key("anthropic") == BLOCK_KEY


def test_workers_share_the_servers_limits(vendor: VendorServer, tmp_path: Path) -> None:
    make_limit("judge-requests-anthropic", 1000, 0.001)
    make_limit("judge-tokens-anthropic", 500, 5000.0)
    settings = JudgeSettings("anthropic:m", base_url=vendor.anthropic_url, concurrency=4)
    for worker in range(2):
        with make_judge(settings) as judge:
            judge.ask_all([Request(f"{worker} {i}", max_tokens=1) for i in range(5)])
            # More tokens than the limit has: takes all of it, rather than fail.
            assert judge.ask_all([Request(f"{worker} large", max_tokens=100_000)])[0].text
    assert slots("judge-requests-anthropic") == 12


def test_a_limit_that_breaks_ends_no_run(vendor: VendorServer, caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    make_limit("judge-requests-broken", 1000, 1000.0)

    async def before_and_after() -> None:
        limiter = SharedLimiter("broken", LocalLimiter(None, None))
        await limiter.acquire(1)
        async with get_client() as client:
            limit = await client.read_global_concurrency_limit_by_name("judge-requests-broken")
            await client.update_global_concurrency_limit(
                limit.name, GlobalConcurrencyLimitUpdate(slot_decay_per_second=0.0)
            )
        for _ in range(2):
            await limiter.acquire(1)

    with caplog.at_level(logging.WARNING):
        asyncio.run(before_and_after())
    assert caplog.text.count("cannot be kept any more") == 1


def test_a_limit_without_decay_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    make_limit("judge-requests-odd", 1, 0.0)

    async def three() -> None:
        limiter = SharedLimiter("odd", LocalLimiter(None, None))
        for _ in range(3):
            await limiter.acquire(1)

    with caplog.at_level(logging.WARNING):
        asyncio.run(three())
    assert "no slot decay" in caplog.text
