"""Real services that can be killed and started again: PostgreSQL, a Prefect server on it, an S3 server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.operations import ROOT, Program

QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def postgres_programs() -> Path | None:
    """Where Debian's PostgreSQL lies (infra/test-services.sh installs it), the newest one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    return found[-1].parent if found else None


class Postgres:
    """A cluster of its own on loopback, by an unprivileged user: PostgreSQL refuses to be run by root."""

    def __init__(self) -> None:
        programs = postgres_programs()
        assert programs, "no PostgreSQL: run infra/test-services.sh"
        self.programs, self.port = programs, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="vlfilter-postgres-"))
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(self.folder, self.user, self.user)
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "prefect", "-E", "UTF8", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect", "prefect")
        self.url = f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        # Waits until it answers. fsync guards against the machine's crash, which is not what is tested.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w", "-o", options, "start"
        )

    def stop(self) -> None:
        """Every backend quits at once, as after a crash; nothing is written down first."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        user = {"user": self.user, "group": self.user, "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, timeout=120, **user)  # type: ignore[call-overload]


class PrefectServer:
    """`prefect server start` on a database; the port stays the same when it is started again."""

    def __init__(self, folder: Path, database: str):
        self.folder, self.database, self.port = folder, database, free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.start()

    def start(self) -> None:
        own = {
            "PREFECT_HOME": str(self.folder / "server"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database,
            "PREFECT_SERVER_UI_API_URL": self.url,
        }
        command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        # In the checkout's folder, so that prefect.toml is read.
        self.program = Program([sys.executable, *command], self.folder, {**QUIET, **own}, cwd=ROOT)
        wait_for(f"{self.url}/health", 180)

    def kill(self) -> None:
        self.program.kill()

    def __enter__(self) -> PrefectServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class S3:
    """moto's server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.program = Program([sys.executable, *command], folder, {})
        wait_for(self.url, 60)

    def __enter__(self) -> S3:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()


def wait_for(url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(url, timeout=5).status_code < 500:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.2)
