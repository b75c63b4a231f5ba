"""The real SDKs against a server that misbehaves: every kind of answer, error and wait, for both vendors."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.llm.vendor import Play, VendorServer, prompt_of
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.types import Answer, Image, Outcome, Request, Usage

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 100}},
    "required": ["score"],
    "additionalProperties": False,
}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
Make = Callable[..., Judge]


@pytest.fixture(params=["openai", "anthropic"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def judge(vendor: VendorServer, name: str, tmp_path: Path) -> Iterator[Make]:
    made: list[Judge] = []

    def make(model: str = "judge", **settings: object) -> Judge:
        given = {"base_url": vendor.base_url(name), "cache": str(tmp_path / "cache"), "backoff_s": 0.001, **settings}
        made.append(Judge(JudgeSettings(f"{name}:{model}", **given)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask(judge: Judge, request: Request) -> Answer:
    return asyncio.run(judge.ask(request))


def test_an_answer(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play(text="a fine day"))
    answer = ask(judge(), Request("describe", system="be brief", max_tokens=77))
    assert answer == Answer(Outcome.ANSWERED, "a fine day", usage=Usage(100, 10), model="judge-2026")
    body = vendor.questions()[0].body
    assert body["model"] == "judge"
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert "be brief" in json.dumps(body.get("system") or body["messages"][0])


def test_images_go_first_and_unchanged(judge: Make, vendor: VendorServer) -> None:
    ask(judge(), Request("what is it?", images=(Image(PIXEL, "image/png"), Image(b"\xff\xd8jpeg", "image/jpeg"))))
    content = vendor.questions()[0].body["messages"][-1]["content"]
    assert [part["type"] in ("image_url", "image") for part in content] == [True, True, False]
    sent = [
        part["image_url"]["url"].split(",")[1] if "image_url" in part else part["source"]["data"]
        for part in content[:2]
    ]
    assert [base64.b64decode(data) for data in sent] == [PIXEL, b"\xff\xd8jpeg"]
    assert "image/jpeg" in json.dumps(content[1])


def test_other_image_types_are_refused_at_once() -> None:
    with pytest.raises(VlfilterError, match="image/tiff"):
        Image(b"", "image/tiff")


def test_json_is_asked_for_and_validated(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play(text='```json\n{"score": 7}\n```'))
    answer = ask(judge(), Request("grade", schema=SCHEMA))
    assert answer.outcome is Outcome.ANSWERED
    assert answer.data == {"score": 7}
    body = vendor.questions()[0].body
    assert "score" in json.dumps(body.get("response_format") or body["output_config"])


@pytest.mark.parametrize("bad", ["seven", '{"score": 700}', '{"score": NaN}', '{"score": 7', "[" * 100_000])
def test_json_is_repaired_once(judge: Make, vendor: VendorServer, bad: str) -> None:
    vendor.script(Play(text=bad), Play(text='{"score": 70}'))
    answer = ask(judge(), Request("grade", schema=SCHEMA))
    assert answer.data == {"score": 70}
    assert answer.usage == Usage(200, 20)
    second = vendor.questions()[1].body["messages"]
    assert second[-2]["content"] == bad
    assert "not" in prompt_of({"messages": second})
    vendor.script(Play(text=bad), Play(text=bad))
    failed = ask(judge(), Request("grade again", schema=SCHEMA))
    assert failed.outcome is Outcome.FAILED
    assert "after a repair" in failed.reason
    assert failed.data is None
    assert len(vendor.questions()) == 4


def test_json_that_was_cut_off_is_not_asked_for_again(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play("cut", text='{"sc'))
    answer = ask(judge(), Request("grade", schema=SCHEMA, max_tokens=3))
    assert answer.outcome is Outcome.FAILED
    assert "max_tokens=3" in answer.reason
    assert len(vendor.questions()) == 1


def test_a_wrong_schema_costs_nothing(judge: Make, vendor: VendorServer) -> None:
    with pytest.raises(VlfilterError, match="JSON schema of a request is wrong"):
        ask(judge(), Request("grade", schema={"type": "nothing"}))
    assert vendor.seen == []


def test_refused_empty_and_failed_are_three_things(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play("refusal", text="not this"), Play("filtered"), Play("empty"), Play(text=" \n"))
    vendor.script(Play("status", status=400, error={"message": "image is broken"}))
    one = judge()
    answers = [ask(one, Request(f"q{i}")) for i in range(5)]
    assert [answer.outcome.value for answer in answers] == ["refused", "refused", "empty", "empty", "failed"]
    assert answers[0].reason == "not this"
    assert "image is broken" in answers[4].reason
    assert len(vendor.questions()) == 5  # none of them was worth a retry


@pytest.mark.parametrize(
    "play",
    [
        Play("status", status=429, headers={"Retry-After": "0"}),
        Play("status", status=500),
        Play("status", status=529),
        Play("status", status=503, headers={"Retry-After": "Sat, 01 Jan 2000 00:00:00 GMT"}),
        Play("half"),
        Play("garbage"),
    ],
    ids=["429", "500", "529", "503", "half", "garbage"],
)
def test_what_is_worth_a_retry(judge: Make, vendor: VendorServer, play: Play) -> None:
    vendor.script(play, play, Play(text="at last"))
    assert ask(judge(), Request("q")).text == "at last"
    assert len(vendor.questions()) == 3  # ours, not the SDK's


def test_retries_end(judge: Make, vendor: VendorServer) -> None:
    vendor.script(*[Play("status", status=500, error={"message": "on fire"})] * 3)
    answer = ask(judge(attempts=3), Request("q"))
    assert answer.outcome is Outcome.FAILED
    assert "on fire" in answer.reason
    assert "3 attempts" in answer.reason
    assert len(vendor.questions()) == 3


def test_only_our_own_retries_count(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play("status", status=500), Play("status", status=429, headers={"x-should-retry": "true"}))
    one = judge(attempts=1)
    assert [ask(one, Request(f"q{i}")).outcome for i in range(2)] == [Outcome.FAILED] * 2
    assert len(vendor.questions()) == 2


def test_a_pause_of_an_hour_is_not_waited_for(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play("status", status=429, headers={"Retry-After": "3600"}))
    answer = ask(judge(), Request("q"))
    assert answer.outcome is Outcome.FAILED
    assert "3600 s" in answer.reason


def test_a_server_that_never_answers(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play("never"), Play(text="now"))
    assert ask(judge(timeout_s=0.3), Request("q")).text == "now"


def test_a_server_that_is_not_there(judge: Make) -> None:
    answer = ask(judge(base_url="http://127.0.0.1:9/v1", attempts=2), Request("q"))
    assert answer.outcome is Outcome.FAILED
    assert "127.0.0.1:9" in answer.reason


def test_a_slow_answer_holds_nobody_up(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play(text="slow", delay=0.5))
    order: list[int] = []
    judge().ask_all([Request(f"q{i}") for i in range(10)], lambda index, _: order.append(index))
    assert sorted(order) == list(range(10))
    assert order[-1] != 9


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (Play("status", status=401), "does not accept the key"),
        (Play("status", status=403), "does not let this key use judge"),
        (Play("status", status=404), "does not know the model 'judge'"),
        (Play("status", status=402), "no money"),
        (Play("status", status=429, error={"message": "You exceeded your current quota"}), "no money"),
    ],
)
def test_what_concerns_all_requests_is_said_once(judge: Make, vendor: VendorServer, play: Play, message: str) -> None:
    one = judge(concurrency=1)
    vendor.script(Play(text="paid"), play)
    seen: list[str] = []
    with pytest.raises(VlfilterError, match=message):
        one.ask_all([Request(f"q{i}") for i in range(50)], lambda _, answer: seen.append(answer.text))
    assert len(vendor.questions()) == 2
    assert seen == ["paid"]
    assert ask(one, Request("q0")).cached  # what was paid for is there


def test_nobody_sits_out_a_pause_when_the_run_is_over(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play("status", status=429, headers={"Retry-After": "500"}), Play("status", status=401, delay=0.2))
    with pytest.raises(VlfilterError, match="does not accept the key"):
        judge(concurrency=2).ask_all([Request("q0"), Request("q1")])
    assert len(vendor.questions()) == 2


def test_answers_come_in_the_order_of_the_questions(judge: Make, vendor: VendorServer) -> None:
    vendor.answer = lambda body: prompt_of(body)[::-1]
    answers = judge(concurrency=4).ask_all([Request(f"question {i}") for i in range(40)])
    assert [answer.text for answer in answers] == [f"question {i}"[::-1] for i in range(40)]


def test_concurrency_is_kept(judge: Make, vendor: VendorServer) -> None:
    vendor.script(*[Play(text="x", delay=0.05)] * 12)
    one = judge(concurrency=3)
    one.ask_all([Request(f"q{i}") for i in range(12)])
    assert vendor.most_under_way == 3

    async def all_at_once() -> None:
        await asyncio.gather(*(one.ask(Request(f"single {i}")) for i in range(12)))

    vendor.script(*[Play(text="x", delay=0.05)] * 12)
    asyncio.run(all_at_once())
    assert vendor.most_under_way == 3


def test_equal_questions_under_way_are_asked_once(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play(text="one", delay=0.1))
    same = [Request("q", labels={"shard": str(i)}) for i in range(8)]
    answers = judge(cache=None, concurrency=8).ask_all(same)
    assert {answer.text for answer in answers} == {"one"}
    assert len(vendor.questions()) == 1
    assert sum(not answer.cached for answer in answers) == 1


def test_a_call_that_is_given_up_does_not_harm_the_others(judge: Make, vendor: VendorServer) -> None:
    vendor.script(Play(text="first", delay=0.2), Play(text="second"))

    async def two() -> Answer:
        one = judge(cache=None)
        first = asyncio.ensure_future(one.ask(Request("q")))
        while not vendor.questions():
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(one.ask(Request("q")))
        await asyncio.sleep(0.02)
        first.cancel()
        return await second

    assert asyncio.run(two()).text == "second"


def test_ask_all_works_inside_a_running_loop(judge: Make) -> None:
    async def inside() -> list[Answer]:
        return judge().ask_all([Request("q")])

    assert asyncio.run(inside())[0].text == "answer to q"


def test_an_error_of_the_callback_ends_the_run(judge: Make, vendor: VendorServer) -> None:
    def fail(index: int, answer: Answer) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        judge(concurrency=1).ask_all([Request(f"q{i}") for i in range(100)], fail)
    assert len(vendor.questions()) < 100


def test_a_parameter_that_the_server_does_not_know_is_left_out(judge: Make, vendor: VendorServer, name: str) -> None:
    model = "claude-haiku-4-5" if name == "anthropic" else "judge"
    complaint = {"message": "Unsupported parameter: 'temperature' does not support 0 with this model."}
    vendor.script(Play("status", status=400, error=complaint))
    one = judge(model)
    assert [ask(one, Request(f"q{i}")).outcome for i in range(2)] == [Outcome.ANSWERED] * 2
    assert ["temperature" in seen.body for seen in vendor.questions()] == [True, False, False]


def test_a_server_without_structured_output_gets_the_schema_in_words(
    judge: Make, vendor: VendorServer, name: str
) -> None:
    parameter = "response_format" if name == "openai" else "output_config"
    vendor.script(Play("status", status=400, error={"message": f"{parameter}: not supported"}))
    vendor.script(Play(text='{"score": 1}'))
    assert ask(judge(), Request("grade", schema=SCHEMA)).data == {"score": 1}
    second = vendor.questions()[1].body
    assert parameter not in second
    assert '"score"' in prompt_of(second)


@pytest.mark.parametrize("model", ["gpt-5-mini", "o4-mini", "gpt-6-sol", "claude-opus-4-7", "claude-sonnet-5"])
def test_models_that_take_no_temperature_get_none(judge: Make, vendor: VendorServer, name: str, model: str) -> None:
    if model.startswith("claude") != (name == "anthropic"):
        pytest.skip("the other vendor's")
    ask(judge(model), Request("q", temperature=0.0))
    assert "temperature" not in vendor.questions()[0].body


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "gpt-4o"}, "names no judge"),
        ({"model": "google:gemini"}, "names no judge"),
        ({"model": "openai:m", "base_url": "localhost:8000"}, "base URL"),
        ({"model": "openai:m", "base_url": "https://user:secret@host/v1"}, "user or a password"),
        ({"model": "openai:m", "max_usd": 1.0}, "input_usd_per_million"),
        ({"model": "openai:m", "input_usd_per_million": 1.0}, "both"),
        ({"model": "openai:gpt-4o", "batch": True}, "batch needs a cache"),
        ({"model": "openai:gpt-4o", "concurrency": 0}, "at least 1"),
        ({"model": "openai:gpt-4o", "requests_per_minute": 0}, "at least 1"),
        ({"model": "openai:gpt-4o", "max_usd": -1.0}, "0 or more"),
        ({"model": "openai:gpt-4o", "max_usd": float("nan")}, "0 or more"),
        ({"model": "openai:gpt-4o", "ledger": "gs://bucket/x"}, "local file or on S3"),
    ],
)
def test_wrong_settings_are_said(settings: dict[str, object], message: str) -> None:
    with pytest.raises(VlfilterError, match=message) as error:
        Judge(JudgeSettings(**settings))  # type: ignore[arg-type]
    assert "secret" not in str(error.value)


def test_importing_the_judge_loads_neither_torch_nor_the_sdks() -> None:
    heavy = "('torch', 'transformers', 'openai', 'anthropic', 'jsonschema')"
    code = f"import sys, vlfilter.llm.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
