"""Where keys come from, and to whom they may go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from vlfilter.errors import VlfilterError

VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
BASE_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
_BASE_VARIABLES = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
NO_KEY = "none"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ModelName:
    """`vendor:model`, as in `openai:gpt-4o`."""

    vendor: str
    model: str

    @staticmethod
    def parse(text: str) -> ModelName:
        vendor, _, model = text.partition(":")
        if vendor not in VARIABLES or not model:
            raise VlfilterError(
                f"{text!r} names no judge: give openai:MODEL or anthropic:MODEL, for another server that speaks "
                "OpenAI's API openai:MODEL with a base URL."
            )
        return ModelName(vendor, model)


def base_url(vendor: str, given: str | None) -> str:
    """The address that is used: the setting, the SDK's environment variable, or the vendor's own."""
    url = (given or os.environ.get(_BASE_VARIABLES[vendor]) or BASE_URLS[vendor]).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise VlfilterError(f"the judge's base URL {url!r} is none: it should look like http://host:8000/v1.")
    if parts.username or parts.password:
        raise VlfilterError("the judge's base URL holds a user or a password: give keys by the environment.")
    return url


def server_name(vendor: str, url: str) -> str:
    """What the cache keeps of the address: "" for the vendor's own, so that keys do not depend on its spelling."""
    return "" if url == BASE_URLS[vendor] else urlsplit(url).netloc.lower() + urlsplit(url).path


def key_for(vendor: str, url: str, given: str | None) -> str:
    """The key to send, by priority the one given (a Secret block's) or the environment's.

    A server of one's own gets "none" where there is no key, and where its address is neither https nor this machine:
    a vendor's key never travels in clear. Raises `VlfilterError` where the vendor's own address has no key.
    """
    key = (given or os.environ.get(VARIABLES[vendor]) or "").strip()
    if url == BASE_URLS[vendor] and not key:
        raise VlfilterError(
            f"no key for {vendor}: set {VARIABLES[vendor]}, or in a deployment the Secret block {vendor}-api-key."
        )
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        return NO_KEY
    return key or NO_KEY
