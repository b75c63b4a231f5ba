"""Keys: whether they are there, and that none is ever shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "…"
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|AUTH_STRING|CONNECTION_URL)", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_SHORTEST = 4  # shorter values are words ("1", "no"), not secrets


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with the value of every secret variable, and users and passwords in URLs, replaced by `…`."""
    values = os.environ if environment is None else environment
    secrets = {value.strip() for name, value in values.items() if _NAMES.search(name)}
    for secret in sorted((s for s in secrets if len(s) >= _SHORTEST), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _USER_INFO.sub(HIDDEN, text)


def without_user(url: str) -> str:
    """The address alone: no user, password, query or fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return urlunsplit((parts.scheme, host + (f":{parts.port}" if parts.port else ""), parts.path, "", ""))


def present(names: Iterable[str]) -> list[str]:
    """Those of the variables that hold something."""
    return [name for name in names if (os.environ.get(name) or "").strip()]
