"""A real vLLM server on the CPU, from the environment that `make test-vllm` installs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("VLFILTER_VLLM_PYTHON") or ROOT / ".venv-vllm" / "bin" / "python")
PATIENCE = 600.0  # seconds until it must be up; 45 to 120 are usual

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


class Server:
    """A started process and its URL."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path):
        self.process = process
        self.url = url
        self.log = log

    def wait(self) -> None:
        """Until it answers. Raises with the end of its log when it ends before."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(self.url.removesuffix("/v1") + "/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.3)
        raise RuntimeError(f"vLLM did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> None:
        """With all of its own processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@contextmanager
def serve(folder: Path, log: Path, key: str) -> Iterator[Server]:
    """`folder` in float32, as `tiny`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "tiny",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "1024",
        "--max-num-seqs", "16", "--enforce-eager", "--distributed-executor-backend", "uni",
    ]  # fmt: skip
    path = f"{PYTHON.parent}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, **ENVIRONMENT, "PATH": path, "VLLM_API_KEY": key}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent
        )
    server = Server(process, f"http://127.0.0.1:{port}/v1", log)
    try:
        server.wait()
        yield server
    finally:
        server.stop()
