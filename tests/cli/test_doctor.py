"""`vlfilter doctor` as a user types it, beside real servers and some that are gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from vlfilter.cli.app import app

ROOT = Path(__file__).parent.parent.parent
PLANTED = "sk-planted-1234567890"
Serve = Callable[[dict[str, tuple[int, Any]]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers GET by path, (status, JSON); "KEY" in it becomes the header that was sent."""
    servers = []

    def start(answers: dict[str, tuple[int, Any]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = answers.get(self.path, (404, {}))
                sent = self.headers.get("Authorization", "")
                body = json.dumps(answer).replace("KEY", sent).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def doctor(*arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code, and what was found by name."""
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found: dict[str, list[dict[str, str]]] = {}
    answer = json.loads(result.stdout)
    for check in answer["checks"]:
        found.setdefault(check["name"], []).append(check)
    assert answer["healthy"] == (result.exit_code == 0)
    return result.exit_code, found


def test_a_healthy_machine(prefect_api: str, s3: str) -> None:
    code, found = doctor("--output", f"{s3}/scores")
    assert code == 0, found
    assert list(found) == [
        *("python", "packages", "disk", "prefect", "deployments", "work pools", "automations", "runs", "slots"),
        *("keys", "storage", "gpu", "flash-attention"),
    ]
    assert found["prefect"][0]["text"].startswith(f"{prefect_api} answers, version 3.")
    assert found["storage"][0]["level"] == "ok"


def test_one_line_each_exit_code_1_and_no_planted_key(serve: Serve, tmp_path: Path) -> None:
    """The vLLM server hands the key back as its model's name, and the password is in the address of a dead server."""
    vllm = serve({"/v1/models": (200, {"data": [{"id": "KEY"}]})})
    keys = dict.fromkeys(("OPENAI_API_KEY", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"), PLANTED)
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vlfilter.cli import main; main()",
            "doctor",
            "--gpu",
            "--output",
            "o",
            "--vllm",
            f"{vllm}/v1",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            **keys,
            "PREFECT_API_URL": "http://me:hunter2@127.0.0.1:9/api",
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1, result.stderr
    lines = {line[:5].strip() + " " + line[6:22].strip(): line for line in result.stdout.splitlines()}
    assert "does not answer" in lines["fail prefect"]
    assert "serves Bearer …" in lines["ok vllm"]
    assert "ok storage" in lines
    assert "fail gpu" in lines
    assert "OPENAI_API_KEY is set" in result.stdout
    everything = result.stdout + result.stderr
    for secret in (PLANTED, PLANTED[:9], PLANTED[-6:], "hunter2"):
        assert secret not in everything


def test_without_a_server_there_is_nothing_to_fail() -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        code, found = doctor()
    assert code == 0
    assert found["prefect"][0]["level"] == "note"
    assert "work pools" not in found


def test_a_server_that_lets_nobody_in(serve: Serve) -> None:
    url = serve({"/api/health": (200, True), "/api/admin/version": (401, {"exception_message": "Unauthorized"})})
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        code, found = doctor()
    assert code == 1
    assert "PREFECT_API_AUTH_STRING" in found["prefect"][0]["text"]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, "is no OpenAI API"),
        ({"/v1/models": (401, {})}, "VLLM_API_KEY"),
        ({"/v1/models": (200, {"data": []})}, "serves nothing"),
    ],
)
def test_a_vllm_server_that_is_not_fit(serve: Serve, answers: dict[str, tuple[int, Any]], told: str) -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        code, found = doctor("--vllm", f"{serve(answers)}/v1")
    assert code == 1
    assert told in found["vllm"][0]["text"]


def test_a_store_that_is_gone(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with temporary_settings({PREFECT_API_URL: None}):
        code, found = doctor("--output", f"{s3}/scores")
    assert code == 1
    assert "nothing answers at http://127.0.0.1:9 (ConnectError" in found["storage"][0]["text"]
