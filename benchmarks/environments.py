"""Environments of their own for systems that are measured beside ours: their versions exclude ours."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import cache_folder

DOWNLOAD_SECONDS = 1800


def environment(name: str, requirements: Path) -> Path:
    """A virtual environment with pinned versions, made once (some GB); returns its folder."""
    folder = cache_folder() / name
    done = folder / "installed"
    if done.is_file() and done.read_text() == requirements.read_text():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    uv = _uv()
    if uv:
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "-r", str(requirements)], check=True, timeout=DOWNLOAD_SECONDS)
    done.write_text(requirements.read_text())
    return folder


def _uv() -> list[str]:
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    return [found] if found else []
