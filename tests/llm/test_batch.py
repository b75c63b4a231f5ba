"""Batch endpoints: half price, one cache, and jobs that outlive the process that handed them in."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.llm.vendor import Play, VendorServer
from vlfilter.errors import VlfilterError
from vlfilter.llm import keys
from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.llm.jobs import Job, JobStore
from vlfilter.llm.types import Image, Outcome, Request, Usage

PRICES = {"input_usd_per_million": 1000.0, "output_usd_per_million": 2000.0}
HALF = 0.06  # dollars an answer
Make = Callable[..., Judge]


@pytest.fixture(params=["openai", "anthropic"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def judge(vendor: VendorServer, name: str, tmp_path: Path) -> Iterator[Make]:
    made: list[Judge] = []

    def make(**settings: object) -> Judge:
        given = {"base_url": vendor.base_url(name), "cache": str(tmp_path), "batch": True, "poll_s": 0.01}
        retries = {"backoff_s": 0.001, "attempts": 3}
        made.append(Judge(JudgeSettings(f"{name}:m", **{**given, **retries, **PRICES, **settings})))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("batches/*.json"))]


def questions(count: int, shards: int = 2) -> list[Request]:
    return [Request(f"q{i}", labels={"shard": str(i % shards)}) for i in range(count)]


def test_half_price_and_the_same_cache(judge: Make, vendor: VendorServer, tmp_path: Path) -> None:
    one = judge()
    answers = one.ask_all([*questions(6), Request("q0")])
    assert [answer.text for answer in answers] == [*(f"answer to q{i}" for i in range(6)), "answer to q0"]
    assert [answer.usd for answer in answers] == pytest.approx([HALF] * 6 + [0.0])
    assert [(line.labels["shard"], line.batch, line.requests, line.usage) for line in one.spending()] == [
        ("0", True, 3, Usage(300, 30)),
        ("1", True, 3, Usage(300, 30)),
    ]
    assert sum(line.usd for line in one.spending()) == pytest.approx(6 * HALF)
    assert vendor.questions() == []  # all of them went through the batch
    assert records(tmp_path) == []
    direct = judge(batch=False)
    assert all(answer.cached for answer in direct.ask_all(questions(6)))
    assert len(vendor.batches) == 1


def test_only_what_is_not_cached_is_handed_in(judge: Make, vendor: VendorServer) -> None:
    judge(batch=False).ask_all(questions(3))
    judge().ask_all(questions(5))
    (batch,) = vendor.batches.values()
    assert len(batch["lines"]) == 2


def test_answers_in_the_cache_need_no_key(
    judge: Make, name: str, vendor: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(keys.BASE_URLS, name, vendor.base_url(name))  # the vendor's own address wants a key
    judge().ask_all(questions(3))
    monkeypatch.delenv(keys.VARIABLES[name])
    assert all(answer.cached for answer in judge().ask_all(questions(3)))
    with pytest.raises(VlfilterError, match="no key for"):
        judge().ask_all(questions(4))


def test_the_lines_are_the_requests(judge: Make, vendor: VendorServer) -> None:
    request = Request("p", (Image(b"12", "image/png"),), "sys", {"type": "object", "properties": {}}, 33)
    vendor.answer = lambda body: "{}"
    judge(batch=False, cache=None).ask_all([request])
    judge().ask_all([request])
    (batch,) = vendor.batches.values()
    assert batch["lines"][0][1] == vendor.questions()[0].body


def test_outcomes(judge: Make, vendor: VendorServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    vendor.hold_batches = True
    requests = [Request(f"q{i}", schema=schema if i == 3 else None) for i in range(5)]
    # The vendor answers from the last to the first.
    vendor.script(
        Play("status", status=400, error={"message": "no such image"}),
        Play(text="not json"),
        Play("empty"),
        Play("refusal", text="never"),
        Play(text="fine"),
        Play(text='{"n": 4}'),  # the repair, asked for directly
    )
    answers = finish_while(vendor, lambda: judge().ask_all(requests))
    assert [answer.outcome.value for answer in answers] == ["answered", "refused", "empty", "answered", "failed"]
    assert answers[3].data == {"n": 4}
    assert answers[3].usd == pytest.approx(HALF + 2 * HALF)
    assert "no such image" in answers[4].reason


def finish_while(vendor: VendorServer, call: Callable[[], list], last: int | None = None) -> list:
    """Run `call` in a thread; answer the batches once they are in."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call)
        while not vendor.batches and not running.done():
            time.sleep(0.01)
        vendor.finish_batches(last)
        return running.result(60)


def test_requests_that_expire_fail_and_are_asked_again(judge: Make, vendor: VendorServer) -> None:
    vendor.hold_batches = True
    answers = finish_while(vendor, lambda: judge().ask_all(questions(4)), last=2)
    assert [answer.outcome for answer in answers] == [Outcome.ANSWERED] * 2 + [Outcome.FAILED] * 2
    assert sum(line.usd for line in judge().spending()) == pytest.approx(2 * HALF)
    vendor.hold_batches = False
    assert [answer.cached for answer in judge().ask_all(questions(4))] == [True, True, False, False]


WORKER = """
import sys
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.types import Request
vendor, url, cache = sys.argv[1:]
settings = JudgeSettings(f"{vendor}:m", url, cache, batch=True, poll_s=0.01, max_usd=20.0,
                         input_usd_per_million=1000.0, output_usd_per_million=2000.0)
Judge(settings).ask_all([Request(f"q{i}", labels={"shard": str(i % 2)}) for i in range(4)])
"""


def test_a_killed_process_leaves_its_job(judge: Make, vendor: VendorServer, name: str, tmp_path: Path) -> None:
    vendor.hold_batches = True
    worker = subprocess.Popen([sys.executable, "-c", WORKER, name, vendor.base_url(name), str(tmp_path)])
    polled = "/v1/batches/batch-0" if name == "openai" else "/v1/messages/batches/batch-0"
    while not any(seen.path == polled for seen in vendor.seen):  # the id is kept before the first poll
        assert worker.poll() is None
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    assert [record["id"] for record in records(tmp_path)] == ["batch-0"]
    one = judge(max_usd=20.0)
    assert sum(line.reserved_usd for line in one.spending()) > 4 * HALF
    vendor.finish_batches()
    vendor.hold_batches = False
    answers = one.ask_all(questions(6))  # two more than the killed one asked
    assert [answer.outcome for answer in answers] == [Outcome.ANSWERED] * 6
    assert [len(batch["lines"]) for batch in vendor.batches.values()] == [4, 2]
    assert sum(line.usd for line in one.spending()) == pytest.approx(6 * HALF)
    assert sum(line.reserved_usd for line in one.spending()) == 0
    assert records(tmp_path) == []


def test_a_process_that_died_while_handing_in(judge: Make, vendor: VendorServer, name: str, tmp_path: Path) -> None:
    """The vendor has the job, the record has no id: it is found by its tag, or by its size and time."""
    vendor.hold_batches = True
    one = judge(attempts=1)
    requests = questions(3)
    store = JobStore(str(tmp_path))
    finish_while(vendor, lambda: one.ask_all([Request("another set")]))
    lines = [(one._key(request), one._sender.vendor.payload(request)) for request in requests]  # type: ignore[union-attr]
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    server = vendor.base_url(name).removeprefix("http://")
    held = {key: [{}, 1] for key, _ in lines}
    job = Job("t" * 64, name, "m", server, time.time(), socket.gethostname(), int(dead.stdout), 3, held)
    assert store.create(job)
    number = one._loop.submit(one._sender.vendor.submit(lines, job.tag)).result()  # type: ignore[union-attr]
    vendor.finish_batches()
    answers = judge().ask_all(requests)
    assert [answer.text for answer in answers] == ["answer to q0", "answer to q1", "answer to q2"]
    assert list(vendor.batches) == ["batch-0", number]


def test_a_record_whose_job_was_never_handed_in(judge: Make, vendor: VendorServer, name: str, tmp_path: Path) -> None:
    one = judge(max_usd=10.0)
    server = vendor.base_url(name).removeprefix("http://")
    key = one._key(Request("q0"))
    job = Job("t" * 64, name, "m", server, time.time(), socket.gethostname(), 2**22 + 1, 1, {key: [{}, 10**9]})
    one._ledger.reserve(10**9, None, {}, "m", job.ticket)
    JobStore(str(tmp_path)).create(job)
    assert one.ask_all([Request("q0")])[0].text == "answer to q0"
    assert sum(line.reserved_usd for line in one.spending()) == 0
    assert sum(line.usd for line in one.spending()) == pytest.approx(HALF)


def test_a_set_that_does_not_fit_the_budget_is_not_handed_in(judge: Make, vendor: VendorServer, tmp_path: Path) -> None:
    one = judge(max_usd=5.0)
    with pytest.raises(BudgetExceededError):
        one.ask_all(questions(20))
    assert vendor.batches == {}
    assert records(tmp_path) == []
    assert one.spending() == []
    assert len(one.ask_all(questions(4))) == 4


def test_large_sets_are_cut(judge: Make, vendor: VendorServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from vlfilter.llm import anthropic_vendor, openai_vendor

    monkeypatch.setattr(openai_vendor.OpenAiVendor, "batch_limit", 3)
    monkeypatch.setattr(anthropic_vendor.AnthropicVendor, "batch_limit", 3)
    monkeypatch.setattr(openai_vendor.OpenAiVendor, "batch_bytes", 10_000)
    monkeypatch.setattr(anthropic_vendor.AnthropicVendor, "batch_bytes", 10_000)
    requests = [*questions(7), *(Request(f"big{i}", (Image(bytes(6000), "image/png"),)) for i in range(2))]
    assert [answer.outcome for answer in judge().ask_all(requests)] == [Outcome.ANSWERED] * 9
    assert sorted(len(batch["lines"]) for batch in vendor.batches.values()) == [1, 1, 1, 3, 3]


def test_answers_of_others_are_left_for_them(judge: Make, vendor: VendorServer, tmp_path: Path) -> None:
    vendor.hold_batches = True
    first = judge()
    running = first._loop.submit(first._batch_all(questions(4), queue.SimpleQueue()))
    while not (found := records(tmp_path)) or found[0]["id"] is None:
        time.sleep(0.01)
    running.cancel()
    first.close()
    vendor.finish_batches()
    one = judge()
    assert [answer.text for answer in one.ask_all(questions(4)[1:2])] == ["answer to q1"]
    assert sum(line.usd for line in one.spending()) == pytest.approx(4 * HALF)  # the job is paid as a whole, once
    assert len(one.ask_all(questions(4))) == 4
    assert sum(line.usd for line in one.spending()) == pytest.approx(4 * HALF)
    assert len(vendor.batches) == 1
    assert records(tmp_path) == []


def test_a_job_that_is_gone(judge: Make, vendor: VendorServer, tmp_path: Path) -> None:
    vendor.hold_batches = True
    one = judge()
    running = one._loop.submit(one._batch_all(questions(2), queue.SimpleQueue()))
    while not (found := records(tmp_path)) or found[0]["id"] is None:
        time.sleep(0.01)
    running.cancel()
    vendor.batches.clear()
    answers = judge().ask_all(questions(2))
    assert [answer.outcome for answer in answers] == [Outcome.FAILED] * 2
    assert "does not know the batch" in answers[0].reason
    assert records(tmp_path) == []


def test_on_s3(vendor: VendorServer, s3: str) -> None:
    settings = JudgeSettings(
        "openai:m", vendor.openai_url, s3 + "/cache", max_usd=5.0, batch=True, poll_s=0.01, **PRICES
    )
    with Judge(settings) as one:
        assert len(one.ask_all(questions(3))) == 3
        vendor.hold_batches = True
        pending = one._loop.submit(one._batch_all(questions(5), queue.SimpleQueue()))
        while not any(
            job.id for job in JobStore(s3 + "/cache").all("openai", "m", keys.server_name("openai", one._url))
        ):
            time.sleep(0.01)
        pending.cancel()
    vendor.finish_batches()
    with Judge(settings) as one:
        assert [answer.cached for answer in one.ask_all(questions(5))] == [True] * 3 + [False] * 2
        assert sum(line.usd for line in one.spending()) == pytest.approx(5 * HALF)
    assert len(vendor.batches) == 2


def test_a_server_without_batches(judge: Make, name: str, vendor: VendorServer, tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="no batch endpoint"):
        judge(base_url=vendor.url + "/elsewhere").ask_all(questions(1))
    assert records(tmp_path) == []


def handed_in(judge: Make, vendor: VendorServer, requests: list[Request]) -> None:
    """Hand them in as a batch and let the asking process go away before there are answers."""
    vendor.hold_batches = True
    one = judge(poll_s=0.01)
    asking = one._loop.submit(one._batch_all(requests, queue.SimpleQueue()))
    while not (vendor.batches and any(job["id"] for job in records(Path(one.settings.cache or "")))):
        assert not asking.done(), asking.result()
        time.sleep(0.01)
    asking.cancel()
    vendor.hold_batches = False


def test_answers_are_collected_without_the_questions(judge: Make, vendor: VendorServer, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    requests = [Request(f"q{i}", labels={"shard": "0"}, schema=schema if i in (1, 3) else None) for i in range(5)]
    handed_in(judge, vendor, requests)
    (waiting,) = judge().collect_batches()
    assert (waiting.state, waiting.size, waiting.answers) == ("under way", 5, 0)

    vendor.script(Play(text="4"), Play(text="not json"), Play("refusal", text="never"), Play(text='{"n": 1}'))
    vendor.finish_batches()  # from the last to the first
    (job,) = judge().collect_batches()
    assert (job.state, job.answers, job.left) == ("collected", 4, 1)
    spent = judge().spending()
    assert sum(line.usd for line in spent) == pytest.approx(5 * HALF)
    assert sum(line.reserved_usd for line in spent) == 0
    assert vendor.questions() == []  # nothing was repaired: nobody is there to pay for it

    (again,) = judge().collect_batches()
    assert (again.state, again.answers, again.left) == ("collected", 0, 1)
    vendor.answer = lambda body: '{"n": 3}'
    answers = judge().ask_all(requests)
    assert [answer.cached for answer in answers] == [True, True, True, False, True]
    assert [answer.outcome.value for answer in answers] == ["answered", "answered", "refused", "answered", "answered"]
    assert [answer.data for answer in answers] == [None, {"n": 1}, None, {"n": 3}, None]
    assert sum(line.usd for line in judge().spending()) == pytest.approx(5 * HALF + 2 * HALF)  # and the repair
    assert len(vendor.batches) == 1
    assert records(tmp_path) == []


def test_a_lost_job_is_told_and_its_questions_are_asked_anew(judge: Make, vendor: VendorServer) -> None:
    handed_in(judge, vendor, questions(3))
    vendor.batches.clear()
    (job,) = judge().collect_batches()
    assert job.state == "lost"
    assert "does not know the batch" in job.reason
    assert judge().collect_batches() == []
    assert [answer.outcome for answer in judge().ask_all(questions(3))] == [Outcome.ANSWERED] * 3
