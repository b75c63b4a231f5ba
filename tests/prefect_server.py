"""One real Prefect server for the session, on a copy of a migrated database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from vlfilter.cli.prefect import quiet_prefect

HOME = Path(tempfile.mkdtemp(prefix="vlfilter-prefect-"))
os.environ["PREFECT_HOME"] = str(HOME)
os.environ["PREFECT_PROFILES_PATH"] = str(HOME / "profiles.toml")
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
    os.environ.pop(name, None)
quiet_prefect()


def migrated_database() -> Path:
    """Made once a Prefect version and machine, which saves seconds in every session."""
    path = Path(tempfile.gettempdir()) / f"vlfilter-prefect-{version('prefect')}-{os.getuid()}.db"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            check=True,
            capture_output=True,
            env={**os.environ, "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{fresh}"},
        )
        fresh.replace(path)
    return path


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """The API URL of the session's server; flows that run in this process use it."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_DATABASE_CONNECTION_URL,
        temporary_settings,
    )

    shutil.copy(migrated_database(), HOME / "prefect.db")
    database = f"sqlite+aiosqlite:///{HOME / 'prefect.db'}"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: database}):
        server = SubprocessASGIServer()
        server.start(timeout=120)
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield server.api_url
        server.stop()
    shutil.rmtree(HOME, ignore_errors=True)
