"""Runs programs, reads the kernel's accounts of them, and keeps results as JSON with the machine and versions."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "vlfilter",
    "torch",
    "transformers",
    "open_clip_torch",
    "pillow",
    "pyarrow",
    "numpy",
    "prefect",
    "webdataset",
)
SAMPLE_SECONDS, RARELY = 0.05, 50  # at most 2 % of the time goes into looking
_PR_SET_CHILD_SUBREAPER = 36
QUIET = {
    # What is measured is this tree, wherever the package is installed from.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
VISIBLE = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}  # for what is to see the GPU


def cache_folder() -> Path:
    """Where data, models and environments are made once and kept: $VLFILTER_BENCHMARKS or the user's cache."""
    base = os.environ.get("VLFILTER_BENCHMARKS") or Path.home() / ".cache" / "vlfilter" / "benchmarks"
    folder = Path(base)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scratch_folder(name: str) -> tempfile.TemporaryDirectory[str]:
    """A folder for one run's output, on the same volume as the data."""
    return tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache_folder())


@dataclass(frozen=True, slots=True)
class Measured:
    """One program with all its descendants. CPU times are the kernel's, `peak_mb` (MB of 10⁶ bytes) is the largest
    sum over the living processes of their own pages and their share of common ones (PSS), looked at 20 times a second,
    or as often as costs 2 % of the time.
    """

    wall_s: float
    user_s: float
    sys_s: float
    peak_mb: float

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.sys_s

    def as_json(self) -> dict[str, float]:
        return {**{name: round(value, 3) for name, value in asdict(self).items()}, "cpu_s": round(self.cpu_s, 3)}


class ProgramError(Exception):
    """A measured program failed; its output is in the message."""


def run_program(
    command: Sequence[str], env: Mapping[str, str] | None = None, timeout: float = 900
) -> tuple[Measured, str]:
    """Run a program to its end, orphans included, and return its accounts and its output (stdout and stderr)."""
    # Orphans come to us instead of to init, so that their CPU time is counted too.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, others = resource.getrusage(resource.RUSAGE_CHILDREN), _children()
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            list(command), cwd=ROOT, env={**os.environ, **QUIET, **(env or {})}, stdout=output, stderr=subprocess.STDOUT
        )
        watch = _MemoryWatch(process.pid)
        watch.start()
        try:
            code = process.wait(timeout)
            wall = time.perf_counter() - started
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watch.stop()
            _reap_orphans(others)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code:
        raise ProgramError(f"{' '.join(map(str, command))} ended with {code}:\n{text[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Measured(wall, user, system, watch.peak / 1e6), text


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def last_json(text: str) -> Any:
    """What a program of ours printed on its last line."""
    return json.loads(text.strip().splitlines()[-1])


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            found.update(map(int, task.read_text().split()))
    return found


def _reap_orphans(others: set[int]) -> None:
    """Wait for grandchildren that outlived the program (they end by themselves), at most a minute. `others` are
    children that were there before and are nothing to it."""
    deadline = time.monotonic() + 60
    while (left := _children() - others) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


class _MemoryWatch(threading.Thread):
    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self._done = threading.Event()

    def run(self) -> None:
        pause = SAMPLE_SECONDS
        while not self._done.wait(pause):
            started = time.perf_counter()
            self.peak = max(self.peak, sum(_pss(pid) for pid in _tree(self.pid)))
            # The kernel stops a process while it counts its pages: with many of them, look less often.
            pause = max(SAMPLE_SECONDS, RARELY * (time.perf_counter() - started))

    def stop(self) -> None:
        self._done.set()
        self.join()


def _tree(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting.extend(map(int, task.read_text().split()))
            except (OSError, ValueError):
                continue
    return found


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text()
    name = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory.split()[1]) * 1024 / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "gpu": _gpu(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
        "load": round(os.getloadavg()[0], 2),
    }


def _gpu() -> str:
    """The first GPU's name; empty without one. Asked of the driver, so that no library is loaded here."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.strip().partition("\n")[0]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that was measured, with `+` when the code had changes of its own."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + (
        "+" if _git("status", "--porcelain", "--untracked-files=no", "--", "vlfilter", "flows", "tasks") else ""
    )


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what was measured, what it may be at most (or at least), and what it is compared with."""

    what: str
    value: float
    unit: str
    limit: str = ""
    met: bool | None = None
    baseline: float | None = None
    baseline_name: str = ""


def at_most(what: str, value: float, unit: str, limit: float, **more: Any) -> Line:
    return Line(what, value, unit, f"≤ {limit:g}", value <= limit, **more)


def at_least(what: str, value: float, unit: str, limit: float, **more: Any) -> Line:
    return Line(what, value, unit, f"≥ {limit:g}", value >= limit, **more)


def write_result(name: str, lines: Sequence[Line], details: Mapping[str, Any]) -> bool:
    """Write results/NAME.json, print its lines, and tell whether every limit is met."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "benchmark": name,
        "command": f"python -m benchmarks.{name}",
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "lines": [asdict(line) for line in lines],
        "details": details,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for line in lines:
        verdict = {True: "  met", False: "  NOT MET", None: ""}[line.met]
        beside = f"  ({line.baseline_name}: {line.baseline:.4g})" if line.baseline is not None else ""
        print(f"{name}: {line.what}: {line.value:.4g} {line.unit} {line.limit}{verdict}{beside}", flush=True)
    return all(line.met is not False for line in lines)
