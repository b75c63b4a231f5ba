"""Whether a vLLM server answers, and what it serves."""

from __future__ import annotations

from urllib.parse import urlsplit

from vlfilter.doctor.check import Check
from vlfilter.doctor.secrets import present, without_user
from vlfilter.llm.keys import LOOPBACK
from vlfilter.scoring.vllm_client import KEY, VllmClient


def check_vllm(base_url: str) -> Check:
    """Raises `VlfilterError` for a server that does not answer, refuses the key, or is none."""
    models = VllmClient(base_url, in_flight=1).models()
    address = without_user(base_url)
    if not models:
        return Check("vllm", "fail", f"{address} answers and serves nothing", "start it with a model: docs/vllm.md")
    served = ", ".join(f"{name} ({length} tokens)" if length else name for name, length in models.items())
    if not present([KEY]) and urlsplit(base_url).hostname not in LOOPBACK:
        return Check("vllm", "warn", f"{address} serves {served} to anyone", f"start it with a key in {KEY}")
    return Check("vllm", "ok", f"{address} serves {served}")
