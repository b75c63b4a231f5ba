"""Python, packages and disk of this machine."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from vlfilter import __version__
from vlfilter.data.storage import absolute, is_local
from vlfilter.doctor.check import Check
from vlfilter.errors import VlfilterError

OLDEST = (3, 11)
WARN_BYTES, FAIL_BYTES = 10 * 10**9, 10**9  # room for models and logs; below the second not even tables are sure
INSTALL = "uv pip install --constraint constraints.txt ."


def check_python() -> Check:
    version = platform.python_version()
    if sys.version_info < OLDEST:
        return Check("python", "fail", version, f"vlfilter needs Python {'.'.join(map(str, OLDEST))} or later")
    return Check("python", "ok", f"{version}, vlfilter {__version__}, {platform.system()} {platform.machine()}")


def check_packages() -> Check:
    """Whether what is installed is what vlfilter asks for: an upgrade of another package may have moved it."""
    try:
        wanted = importlib.metadata.requires("vlfilter") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", "warn", "vlfilter runs from a folder and is not installed", INSTALL)
    wrong = [problem for text in wanted if (problem := _problem(text))]
    if wrong:
        return Check("packages", "fail", "; ".join(wrong), INSTALL)
    return Check("packages", "ok", "all that vlfilter needs is installed, in versions that fit")


def _problem(text: str) -> str:
    """What is wrong with one requirement; empty for nothing, and for what an extra asks for."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return f"{text!r} cannot be read"
    if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
        return ""
    try:
        have = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{wanted.name} is missing"
    if wanted.specifier.contains(have, prereleases=True):
        return ""
    return f"{wanted.name} {have} is installed, vlfilter needs {wanted.specifier}"


def check_disk(output: str | None) -> Iterator[Check]:
    """Free space where temporary files, caches and, on a local disk, the output go: one line a volume."""
    from vlfilter.models.digests import cache_folder

    places = {"temporary files": Path(tempfile.gettempdir()), "caches": cache_folder()}
    if output and is_local(output):
        places = {"output": Path(absolute(output))} | places
    volumes: dict[int, tuple[list[str], Path]] = {}
    for what, path in places.items():
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        volumes.setdefault(there.stat().st_dev, ([], there))[0].append(what)
    for names, there in volumes.values():
        yield _disk(", ".join(names), there)


def _disk(what: str, path: Path) -> Check:
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        raise VlfilterError(f"the free space of {path} cannot be read: {error}") from None
    text = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free for {what} ({path})"
    if usage.free >= WARN_BYTES:
        return Check("disk", "ok", text)
    advice = "free some, or set TMPDIR, HF_HOME and VLFILTER_CACHE to a larger volume"
    return Check("disk", "warn" if usage.free >= FAIL_BYTES else "fail", text, advice)
