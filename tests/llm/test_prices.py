"""Prices, tokens, and the dry run."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image as PilImage

from tests.llm.vendor import VendorServer
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.prices import AS_OF, PRICES, Price, cost_nano, known_price, worst_nano
from vlfilter.llm.tokens import image_tokens, input_tokens, most_input_tokens
from vlfilter.llm.types import Image, Request, Usage


def picture(width: int, height: int) -> Image:
    data = io.BytesIO()
    PilImage.new("RGB", (width, height)).save(data, "PNG")
    return Image(data.getvalue(), "image/png")


def test_prices_are_found_by_name_and_dated_name() -> None:
    assert known_price("gpt-4o") == known_price("gpt-4o-2024-08-06") == Price(2.5, 10.0, 1.25)
    assert known_price("claude-haiku-4-5-20251001") == PRICES["claude-haiku-4-5"]
    assert known_price("gpt-4o-audio") is None
    assert known_price("my-own-model") is None
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", AS_OF)


def test_costs() -> None:
    assert cost_nano(Price(2.5, 10.0), Usage(1000, 100)) == 3_500_000
    assert cost_nano(Price(2.5, 10.0), Usage(1000, 100), batch=True) == 1_750_000
    assert cost_nano(Price(2.0, 10.0, 0.2, 2.5), Usage(1000, 0, 600, 100)) == 300 * 2000 + 600 * 200 + 100 * 2500
    assert cost_nano(Price(0.05, 0.4), Usage(1, 0)) == 50
    assert cost_nano(Price(0.0001, 0.0), Usage(1, 0)) == 1  # rounded up, never to nothing
    long = Price(1.0, 2.0, None, None, 1000, 5.0, 3.0)
    assert cost_nano(long, Usage(1000, 10)) == 1_020_000
    assert cost_nano(long, Usage(1001, 10)) == 1001 * 5000 + 10 * 6000


@pytest.mark.parametrize("model", PRICES)
def test_the_worst_is_the_worst(model: str) -> None:
    price = PRICES[model]
    for tokens in (1, 10_000, 99_000, 300_000):
        worst = worst_nano(price, tokens, 500)
        for usage in (
            Usage(tokens, 500),
            Usage(tokens, 500, tokens),
            Usage(tokens, 500, 0, tokens),
            Usage(tokens // 2),
        ):
            assert cost_nano(price, usage) <= worst
    assert 0 < (price.cached or price.input) <= price.input < price.output


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gpt-4o", 512, 512, 85 + 170),  # the vendor's examples: 1024 x 1024 and 2048 x 4096 at high detail
        ("gpt-4o", 1024, 1024, 765),
        ("gpt-4o", 2048, 4096, 1105),
        ("gpt-4o-mini", 1024, 1024, 2833 + 4 * 5667),
        ("claude-sonnet-4-5", 1000, 1000, 1342),
    ],
)
def test_tokens_of_an_image(model: str, width: int, height: int, tokens: int) -> None:
    assert image_tokens(picture(width, height), model) == tokens


def test_a_broken_image_is_bounded() -> None:
    assert image_tokens(Image(b"no image", "image/png"), "gpt-4o") == 1445 - 170 * 4
    assert image_tokens(Image(b"no image", "image/png"), "llava") > 30_000


def test_the_bound_holds_for_every_text() -> None:
    request = Request("🐈" * 1000, system="é" * 10, schema={"type": "object"})
    bound = most_input_tokens(request, "m")
    assert bound >= 4 * 1000 + 2 * 10 + 18
    assert input_tokens(request, "m") < bound


def test_the_dry_run(vendor: VendorServer, tmp_path: Path) -> None:
    settings = JudgeSettings("openai:gpt-4o", base_url=vendor.openai_url, cache=str(tmp_path))
    with Judge(settings) as judge:
        judge.ask_all([Request("asked")])
        sent = len(vendor.seen)
        text = "word " * 800  # 4000 bytes
        estimate = judge.estimate(Request(p, max_tokens=200) for p in (text, text + "!", text))
        again = judge.estimate([Request("asked")])
    assert len(vendor.seen) == sent
    assert (again.cached, again.to_send, again.usd_most) == (1, 0, 0.0)
    assert (estimate.requests, estimate.repeated, estimate.to_send) == (3, 1, 2)
    assert 2000 <= estimate.input_tokens <= 2400
    assert estimate.max_output_tokens == 400
    assert estimate.usd_least == pytest.approx(estimate.input_tokens * 2.5e-6)
    assert estimate.usd_most == pytest.approx(estimate.input_tokens * 2.5e-6 + 400 * 10e-6)
    assert "2 to send" in str(estimate)
    with Judge(JudgeSettings("openai:gpt-4o", cache=str(tmp_path), batch=True)) as judge:
        half = judge.estimate([Request(text, max_tokens=200), Request(text + "!", max_tokens=200)])
        assert half.usd_most == pytest.approx((estimate.usd_most or 0) / 2)
    with Judge(JudgeSettings("openai:mine")) as judge:
        unknown = judge.estimate([Request("q")])
        assert unknown.usd_most is None
        assert "input_usd_per_million" in str(unknown)
