"""Prefect's settings for a run from the command line: its own talk stays out of the bar's way."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

from vlfilter.errors import VlfilterError

DEFAULTS = {
    # The terminal belongs to the bar and the summary; logs still go to the server.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "vlfilter,flows,tasks",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # a busy machine needs more than the default 20
    # The server that Prefect starts for a run writes task runs in batches, which keeps SQLite from locking up.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # A server with our automations takes a run for dead that is silent for 90 s; Prefect's own pace is 180.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}


def quiet_prefect() -> None:
    """Call before Prefect is imported. What the user's environment says stays as it is."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def check_server() -> None:
    """Raises `VlfilterError` when a Prefect server is configured and does not answer."""
    import httpx
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        return
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise VlfilterError(
            f"the Prefect server at {url} does not answer ({error}): "
            "start it, or unset PREFECT_API_URL to run without one."
        ) from None


def start_server() -> None:
    """Where no server is configured, start the one that Prefect would, but out of Ctrl-C's reach.

    A terminal interrupts all processes of its group: without its server the run could not even say that it was stopped.
    The server ends with this process, however that ends. Call it from the main thread.
    """
    import prefect
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        return

    class Apart(SubprocessASGIServer):
        def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
            settings = get_current_settings().to_environment_variables(exclude_unset=True)
            own = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
            command = [sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent), "--factory"]
            command += ["prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(self.port)]
            return subprocess.Popen(  # noqa: S603 - our own words
                [*command, "--log-level", "error", "--lifespan", "on"],
                env={**os.environ, **own, **settings},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    Apart().start()  # Prefect finds it: there is one instance a port


def _end_with_parent() -> None:
    """Linux tells the child when the thread that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
