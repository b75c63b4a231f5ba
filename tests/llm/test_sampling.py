"""How answers are sampled: what of a request goes to which vendor, and what counts for the cache."""

from __future__ import annotations

from dataclasses import replace

from tests.llm.vendor import Play, VendorServer
from vlfilter.llm.cache import cache_key
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.types import Outcome, Request

ASKED = Request("q", temperature=0.7, top_p=0.9, stop=("###",), extra={"n": 1, "logit_bias": {"50256": -100}})


def _ask(vendor: VendorServer, model: str, request: Request) -> dict[str, object]:
    url = vendor.base_url(model.split(":")[0])
    with Judge(JudgeSettings(model, base_url=url, attempts=1)) as judge:
        assert judge.ask_all([request])[0].outcome == Outcome.ANSWERED
    body: dict[str, object] = vendor.questions()[-1].body
    return body


def test_an_openai_like_server_gets_all_of_it(vendor: VendorServer) -> None:
    body = _ask(vendor, "openai:gpt-4", ASKED)
    sent = {name: body[name] for name in ("temperature", "top_p", "stop", "n", "logit_bias")}
    assert sent == {"temperature": 0.7, "top_p": 0.9, "stop": ["###"], "n": 1, "logit_bias": {"50256": -100}}


def test_models_that_take_none_get_none(vendor: VendorServer) -> None:
    body = _ask(vendor, "openai:gpt-5", ASKED)
    assert not {"temperature", "top_p", "stop", "n", "logit_bias"} & set(body)
    body = _ask(vendor, "anthropic:claude-3-5-sonnet-latest", ASKED)
    assert body["stop_sequences"] == ["###"]
    assert not {"top_p", "n", "logit_bias"} & set(body)


def test_a_parameter_that_a_server_complains_of_is_left_out(vendor: VendorServer) -> None:
    error = {"message": "Unsupported parameter: 'logit_bias'", "param": "logit_bias"}
    vendor.script(Play("status", status=400, error=error))
    body = _ask(vendor, "openai:local", ASKED)
    assert "logit_bias" not in body
    assert body["top_p"] == 0.9


def test_the_cache_tells_them_apart_and_keeps_old_keys() -> None:
    plain = Request("q", temperature=0.7)
    variants = [
        plain,
        replace(plain, top_p=0.9),
        replace(plain, stop=("###",)),
        replace(plain, extra={"n": 1}),
        replace(plain, seed=1),
    ]
    keys = [cache_key(request, "openai", "gpt-4", "") for request in variants]
    assert len(set(keys)) == len(keys)
    assert (
        keys[0] == "f563b096419ce7046266a9efd80e40e8c0ae20f112cd378308db29e49fe07219"
    )  # as before there were any of these
