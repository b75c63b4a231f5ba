"""The hard budget and the account, in one process and in eight."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.llm.hammer import hammer
from tests.llm.vendor import Play, VendorServer
from vlfilter.data.storage import join
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.llm.ledger import Charge, Ledger
from vlfilter.llm.prices import NANO
from vlfilter.llm.s3_ledger import S3Ledger
from vlfilter.llm.sqlite_ledger import SqliteLedger
from vlfilter.llm.types import Outcome, Request, Usage

COST = 0.12  # of an answer at the prices below: 100 tokens in, 10 out
PRICES = {"input_usd_per_million": 1000.0, "output_usd_per_million": 2000.0}


def make(vendor: VendorServer, folder: Path, max_usd: float | None, **more: object) -> Judge:
    given = {"base_url": vendor.openai_url, "cache": str(folder), "max_usd": max_usd, "backoff_s": 0.001, **PRICES}
    return Judge(JudgeSettings("openai:m", **{**given, **more}))  # type: ignore[arg-type]


def spent(judge: Judge) -> float:
    return sum(line.usd for line in judge.spending())


def test_the_request_that_could_exceed_it_is_not_sent(vendor: VendorServer, tmp_path: Path) -> None:
    with make(vendor, tmp_path, 1.0) as judge:
        done: list[int] = []
        with pytest.raises(BudgetExceededError) as error:
            judge.ask_all([Request(f"q{i}", max_tokens=20) for i in range(50)], lambda index, _: done.append(index))
        assert spent(judge) == pytest.approx(COST * len(done))
        assert len(done) == len(vendor.questions())
        worst = error.value.needed_usd  # more than an answer turns out to cost: each byte might be a token
        assert 1.0 - worst < spent(judge) <= 1.0
        assert "$1.0000" in str(error.value)
        assert f"${spent(judge):.4f} spent" in str(error.value)
        assert f"${worst:.6f}" in str(error.value)
    with make(vendor, tmp_path, 1.0) as judge:  # what was paid for is there, though there is no money left
        assert all(answer.cached for answer in judge.ask_all([Request(f"q{i}", max_tokens=20) for i in done]))
        with pytest.raises(BudgetExceededError):
            judge.ask_all([Request("one more")])
    with make(vendor, tmp_path, 2.0) as judge:
        assert judge.ask_all([Request("one more", max_tokens=20)])[0].outcome is Outcome.ANSWERED


def test_requests_under_way_give_back_what_they_did_not_need(vendor: VendorServer, tmp_path: Path) -> None:
    # Each may cost 0.6: sixteen at once would not fit into 2.0, one after the other ten do.
    with make(vendor, tmp_path, 2.0, concurrency=16) as judge:
        assert len(judge.ask_all([Request(f"q{i}", max_tokens=250) for i in range(10)])) == 10


def test_zero_buys_nothing(vendor: VendorServer, tmp_path: Path) -> None:
    with make(vendor, tmp_path, 0.0) as judge, pytest.raises(BudgetExceededError):
        judge.ask_all([Request("q")])
    assert vendor.seen == []


@pytest.mark.parametrize("kind", ["sqlite", "s3"])
def test_eight_processes_never_exceed_it(kind: str, vendor: VendorServer, tmp_path: Path, atomic_s3: str) -> None:
    ledger = str(tmp_path / "ledger.sqlite") if kind == "sqlite" else join(atomic_s3, "ledger")
    limit = 3.0
    settings = JudgeSettings("openai:m", vendor.openai_url, ledger=ledger, max_usd=limit, concurrency=4, **PRICES)
    reports = hammer(8, settings)
    assert all(refused for _, refused in reports)
    answered = sum(count for count, _ in reports)
    assert len(vendor.questions()) == answered
    assert limit - 1.0 < answered * COST <= limit
    account = S3Ledger(ledger) if kind == "s3" else SqliteLedger(ledger)
    lines = account.spending()
    assert sum(line.usd for line in lines) == pytest.approx(answered * COST)
    assert sum(line.requests for line in lines) == answered
    assert {line.labels["step"] for line in lines if line.requests} <= {f"w{i}" for i in range(8)}
    assert sum(line.reserved_usd for line in lines) == 0


@pytest.fixture
def atomic_s3(monkeypatch: pytest.MonkeyPatch, s3: str) -> Iterator[str]:
    """An S3 server that takes one request at a time: moto checks a condition and writes in two steps."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    import tests.conftest as shared
    from vlfilter.data.storage import filesystem

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        shared._forget_connections()
        fs, bucket = filesystem(s3)
        fs.mkdir(f"{bucket}-atomic")
        yield f"{s3}-atomic"
        server.shutdown()
    shared._forget_connections()


@pytest.fixture(params=["file", "memory", "s3"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> Ledger:
    if request.param == "s3":
        return S3Ledger(join(s3, "ledger"))
    return SqliteLedger(":memory:" if request.param == "memory" else str(tmp_path / "deep" / "ledger.sqlite"))


def test_a_ledger(ledger: Ledger) -> None:
    first = ledger.reserve(600, 1000, {"shard": "1"}, "m")
    with pytest.raises(BudgetExceededError):
        ledger.reserve(401, 1000, {}, "m")
    second = ledger.reserve(400, 1000, {}, "m")
    assert ledger.settle(first, [Charge({"shard": "1"}, "m", Usage(1, 2, 3, 4), 100)])
    assert not ledger.settle(first, [Charge({"shard": "1"}, "m", Usage(), 100)])
    assert ledger.settle(second, [])
    assert ledger.reserve(900, 1000, {"shard": "2"}, "m", ticket="mine") == "mine"
    assert ledger.reserve(900, 1000, {"shard": "2"}, "m", ticket="mine") == "mine"  # not twice
    lines = ledger.spending()
    assert [(line.labels, line.requests, line.usage) for line in lines if line.usd] == [
        ({"shard": "1"}, 1, Usage(1, 2, 3, 4))
    ]
    assert sum(line.usd for line in lines) == 100 / NANO
    assert sum(line.reserved_usd for line in lines) == 900 / NANO


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def one(i: int) -> bool:
        try:
            ticket = ledger.reserve(10, 1000, {}, "m")
        except BudgetExceededError:
            return False
        return ledger.settle(ticket, [Charge({"shard": str(i % 3)}, "m", Usage(1), 10)])

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(150)))
    assert sum(done) == 100
    assert sum(line.requests for line in ledger.spending()) == 100


def test_what_a_dead_worker_set_aside_stays_counted(vendor: VendorServer, tmp_path: Path) -> None:
    dead = SqliteLedger(str(tmp_path / "ledger.sqlite"))
    dead.reserve(900_000_000, None, {"shard": "3"}, "m")  # and its process dies
    with make(vendor, tmp_path, 1.0) as judge:
        with pytest.raises(BudgetExceededError, match=r"\$0.9000 set aside"):
            judge.ask_all([Request("q")])
        assert [(line.labels, line.reserved_usd) for line in judge.spending()] == [({"shard": "3"}, 0.9)]


def test_an_answer_that_was_lost_on_the_way_is_counted_as_paid(vendor: VendorServer, tmp_path: Path) -> None:
    with make(vendor, tmp_path, 5.0, attempts=1, timeout_s=0.3) as judge:
        vendor.script(Play("half"), Play("never"), Play("status", status=500))
        answers = [judge.ask_all([Request(f"q{i}", max_tokens=100)])[0] for i in range(3)]
        assert {answer.outcome for answer in answers} == {Outcome.FAILED}
        assert answers[0].usd == answers[1].usd > 0.2
        assert answers[2].usd == 0  # an error says that there was no answer
        assert spent(judge) == pytest.approx(answers[0].usd + answers[1].usd)


def test_an_answer_without_usage_is_counted_at_its_worst(vendor: VendorServer, tmp_path: Path) -> None:
    with make(vendor, tmp_path, 5.0) as judge:
        vendor.script(Play(text="x", usage=None))
        assert judge.ask_all([Request("q", max_tokens=100)])[0].usd > 0.2


def test_spending_by_step_shard_and_round(vendor: VendorServer, tmp_path: Path) -> None:
    with make(vendor, tmp_path, None) as judge:
        labels = [{"step": "grade", "shard": f"{i % 2:05d}", "round": "1"} for i in range(6)]
        judge.ask_all([Request(f"q{i}", labels=labels[i]) for i in range(6)])
        judge.ask_all([Request(f"q{i}", labels={"step": "again"}) for i in range(6)])
        lines = judge.spending()
    assert [(line.labels["shard"], line.requests, line.usage) for line in lines] == [
        ("00000", 3, Usage(300, 30)),
        ("00001", 3, Usage(300, 30)),
    ]
    assert [line.usd for line in lines] == pytest.approx([3 * COST] * 2)


def test_a_ledger_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all, by any means" * 50)
    with pytest.raises(VlfilterError, match="cannot be opened"):
        SqliteLedger(str(tmp_path / "ledger.sqlite")).spending()


def test_a_store_that_ignores_conditions_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlfilter.data.storage import write_bytes
    from vlfilter.llm import objects

    def ignores(url: str, data: bytes, etag: str | None) -> bool:
        write_bytes(url, data)
        return True

    monkeypatch.setattr(objects, "put_if", ignores)
    with pytest.raises(VlfilterError, match="ignores conditional writes"):
        S3Ledger(join(s3, "ledger")).reserve(1, 10, {}, "m")
