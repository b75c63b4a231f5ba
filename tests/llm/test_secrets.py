"""A planted key is sent to the vendor and seen nowhere else."""

from __future__ import annotations

import asyncio
import io
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.llm.vendor import KEY, Play, VendorServer
from vlfilter.errors import VlfilterError
from vlfilter.llm import keys
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.llm.types import Request

ECHO = {"message": f"bad key {KEY} in header Authorization: Bearer {KEY}"}  # a proxy that repeats what it got


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All loggers at DEBUG, tracebacks included."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    names = ["", "openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2", "vlfilter", "asyncio", "s3fs"]
    levels = {name: logging.getLogger(name).level for name in names}
    logging.getLogger().addHandler(handler)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield text
    logging.getLogger().removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def everything(error: BaseException) -> str:
    """What any handler could print of an exception: its text, its chain, and the variables of its frames."""
    parts = [repr(error), str(error), *traceback.format_exception(error)]
    seen: BaseException | None = error
    while seen is not None:
        parts += [repr(vars(seen)), repr(seen.args)]
        frames = [frame for frame in traceback.walk_tb(seen.__traceback__) if frame[0].f_code.co_filename != __file__]
        parts += traceback.StackSummary.extract(iter(frames), capture_locals=True).format()
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize("given", ["environment", "argument"])
def test_a_key_is_seen_by_the_vendor_only(
    vendor: VendorServer,
    name: str,
    given: str,
    tmp_path: Path,
    everything_logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if given == "argument":
        monkeypatch.delenv(keys.VARIABLES[name])
    settings = JudgeSettings(
        f"{name}:m",
        base_url=vendor.base_url(name),
        cache=str(tmp_path),
        backoff_s=0.001,
        attempts=2,
        timeout_s=0.5,
        batch=True,
        poll_s=0.01,
        input_usd_per_million=1,
        output_usd_per_million=1,
    )
    api_key = KEY if given == "argument" else None
    said: list[str] = []
    with Judge(settings, api_key=api_key) as judge:
        for play in (
            Play(text="x"),
            Play("status", status=400, error=ECHO),
            Play("half"),
            Play("never"),
            Play("garbage"),
        ):
            vendor.script(play)
            said.append(repr(asyncio.run(judge.ask(Request(f"q {play.kind}")))))
        vendor.script(*[Play("status", status=500, error=ECHO)] * 2)
        said.append(repr(asyncio.run(judge.ask(Request("q 500")))))
        said += [repr(answer) for answer in judge.ask_all([Request("batched")])]
        vendor.hold_batches = True
        pending = judge._loop.submit(judge._batch_all([Request("kept")], __import__("queue").SimpleQueue()))
        while not list(tmp_path.glob("batches/*.json")):
            pass
        pending.cancel()
        for status in (401, 402, 403, 404):
            vendor.script(Play("status", status=status, error=ECHO))
            with pytest.raises(VlfilterError) as error:
                asyncio.run(judge.ask(Request(f"q {status}")))
            said.append(str(error.value))
            assert KEY not in everything(error.value)
        said += [repr(settings), repr(judge.spending()), repr(judge.estimate([Request("q")]))]
    sent = [header for seen in vendor.questions() for header in seen.headers.values() if KEY in header]
    assert len(sent) == len(vendor.questions()) > 8  # it was really used
    assert "***" in said[1]  # the echo came through, without the key
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"batches", tmp_path.name}
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
    printed = capsys.readouterr()
    for text in (*said, everything_logged.getvalue(), printed.out, printed.err):
        assert KEY not in text
    assert "httpx2" in everything_logged.getvalue()


def test_a_missing_key_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    with Judge(JudgeSettings("openai:gpt-4o", cache=str(tmp_path))) as judge:
        assert judge.estimate([Request("q")]).to_send == 1  # the dry run needs none
        with pytest.raises(VlfilterError, match=r"OPENAI_API_KEY.*openai-api-key"):
            judge.ask_all([Request("q")])


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_redirect_takes_no_key_elsewhere(vendor: VendorServer, name: str) -> None:
    other = VendorServer()
    try:
        path = "/v1/chat/completions" if name == "openai" else "/v1/messages"
        vendor.script(Play("status", status=307, headers={"Location": other.url + path}))
        settings = JudgeSettings(f"{name}:m", base_url=vendor.base_url(name), attempts=2, backoff_s=0.001)
        with (
            Judge(settings) as judge,
            pytest.raises(VlfilterError, match=r"redirects.*give its final address") as error,
        ):
            judge.ask_all([Request("q")])
        assert KEY not in everything(error.value)
        assert other.seen == []  # neither the key nor the question
    finally:
        other.stop()


def test_to_whom_a_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    sent = {
        url: keys.key_for("openai", url, None)
        for url in (
            "https://api.openai.com/v1",
            "https://us.example.com/v1",
            "http://127.0.0.1:8000/v1",
            "http://vllm:8000/v1",
            "http://127.0.0.1.example.com/v1",
        )
    }
    assert list(sent.values()) == [KEY, KEY, KEY, "none", "none"]
    monkeypatch.delenv("OPENAI_API_KEY")
    assert keys.key_for("openai", "http://127.0.0.1:8000/v1", None) == "none"
    assert keys.key_for("openai", "https://api.openai.com/v1", "given") == "given"


def test_a_local_server_needs_no_key(vendor: VendorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with Judge(JudgeSettings("openai:m", base_url=vendor.openai_url)) as judge:
        assert judge.ask_all([Request("q")])[0].text == "answer to q"
    assert vendor.questions()[0].headers["authorization"] == "Bearer none"
