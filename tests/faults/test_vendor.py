"""Every failure of the vendors' APIs in random order: nothing is lost, nothing is paid for twice, the account covers
the bill."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.llm.vendor import USAGE, Play, VendorServer, prompt_of
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.types import Outcome, Request

PRICES = {"input_usd_per_million": 1000.0, "output_usd_per_million": 2000.0}
COST = (USAGE[0] * 1000.0 + USAGE[1] * 2000.0) / 1e6
# what a vendor charges for whether it arrives or not; "never" may be charged for
PAID = ("text", "refusal", "filtered", "empty", "cut", "half")
FINAL = ("text", "refusal", "filtered", "cut")
FAULTS = (
    Play("status", status=429, headers={"Retry-After": "0"}),
    Play("status", status=500),
    Play("status", status=503),
    Play("status", status=529),
    Play("status", status=408),
    Play("status", status=400),
    Play("refusal"),
    Play("filtered"),
    Play("empty"),
    Play("cut", text="half a senten"),
    Play("half", text="an answer that breaks off"),
    Play("garbage"),
    Play("never"),
    Play("text", text="50"),
)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_failures(vendor: VendorServer, tmp_path: Path, name: str, seed: int) -> None:
    rng = random.Random(seed)
    settings = JudgeSettings(
        f"{name}:m", base_url=vendor.base_url(name), cache=str(tmp_path), attempts=3, backoff_s=0.001, timeout_s=0.3,
        concurrency=1, max_usd=1000, **PRICES,
    )  # fmt: skip
    requests = [Request(f"question {i}", max_tokens=50) for i in range(14)]
    plays = [rng.choice(FAULTS) for _ in range(30)]
    vendor.script(*plays)
    with Judge(settings) as judge:
        answers = judge.ask_all(requests)
        account = sum(line.usd + line.reserved_usd for line in judge.spending())
    assert len(answers) == len(requests)
    assert all(answer.reason for answer in answers if answer.outcome in (Outcome.FAILED, Outcome.REFUSED))

    asked = [(prompt_of(seen.body), play) for seen, play in zip(vendor.questions(), plays, strict=False)]
    asked += [(prompt_of(seen.body), Play()) for seen in vendor.questions()[len(plays) :]]
    finals = [prompt for prompt, play in asked if play.kind in FINAL]
    assert len(finals) == len(set(finals))  # none is asked again that has been answered
    bill = COST * sum(play.kind in PAID for _, play in asked)
    assert account >= bill - 1e-9
    if not any(play.kind in ("half", "never", "garbage") for _, play in asked):
        assert account == pytest.approx(bill)

    vendor.plays.clear()
    known = len(vendor.questions())
    with Judge(settings) as judge:
        again = judge.ask_all(requests)
    left = {r.prompt for r, a in zip(requests, answers, strict=True) if a.outcome in (Outcome.FAILED, Outcome.EMPTY)}
    assert sorted(prompt_of(seen.body) for seen in vendor.questions()[known:]) == sorted(left)
    for request, first, second in zip(requests, answers, again, strict=True):
        if request.prompt not in left:
            assert (second.outcome, second.text, second.cached) == (first.outcome, first.text, True)
        else:
            assert second.text == f"answer to {request.prompt}"
