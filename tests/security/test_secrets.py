"""Planted keys through a whole flow: not in the server's database, parameters, artifacts, logs or files of the run."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret

from tests.flows.test_mlm_filter import run, work
from tests.llm.vendor import KEY, Play, VendorServer
from tests.prefect_server import HOME

__all__ = ["work"]

BLOCK = "sk-block-J8rTw2planted0block0key"
STORE = "aws-s3cr3t-planted-Zq81mmQy"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged anywhere, Prefect's run loggers included, with what was given to it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    loggers = [
        logging.getLogger(name) for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "httpx", "openai")
    ]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.DEBUG)
    yield text
    for one, level in zip(loggers, levels, strict=True):
        one.removeHandler(handler)
        one.setLevel(level)


def places_of(secret: str, *folders: Path) -> list[str]:
    """Files that hold it, the database and its journal among them."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(str(path))
    return found


def test_a_flow_leaves_no_key_behind(
    work: dict[str, Any], vendor: VendorServer, tmp_path: Path, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The key comes from a block once and from the environment once; the server echoes it in errors each time."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORE)
    Secret(value=BLOCK).save("openai-api-key", overwrite=True, _sync=True)  # type: ignore[call-arg]
    try:
        for key in (KEY, BLOCK):
            if key == BLOCK:
                monkeypatch.delenv("OPENAI_API_KEY")
            echo = {"message": f"bad key {key} in Authorization: Bearer {key}"}
            told = {name: work[name] for name in ("sample", "grade")} | {"output": str(tmp_path / f"out-{key[:8]}")}
            vendor.script(*[Play("status", status=400, error=echo)] * 3)
            assert run(told).is_completed()
            vendor.script(*[Play("status", status=403, error=echo)] * 40)
            failed = run({**told, "grade": {**told["grade"], "metric": "all"}})
            assert failed.is_failed()
            assert key not in str(failed.message)
            vendor.plays.clear()
            assert any(f"Bearer {key}" in seen.headers["authorization"] for seen in vendor.questions())
            vendor.seen.clear()
    finally:
        Secret(value="gone").save("openai-api-key", overwrite=True, _sync=True)  # type: ignore[call-arg]
    printed = capsys.readouterr()
    for secret in (KEY, BLOCK, STORE):
        assert places_of(secret, HOME, tmp_path) == []
        assert secret not in logged.getvalue() + printed.out + printed.err
    assert "grade" in logged.getvalue()
    assert places_of("mlm-filter", HOME) != []  # the database is among what was looked through
