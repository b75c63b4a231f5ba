"""What lies in storage: single files, folders, globs, many files of one folder; local and object stores alike."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from vlfilter.data.storage import filesystem, is_local
from vlfilter.errors import VlfilterError

T = TypeVar("T")
LIST_FROM = 32  # from so many files of one folder on, one listing is cheaper than a request for each


@dataclass(frozen=True, slots=True)
class Found:
    """A file: its absolute path or URL, size in bytes, and a version that changes when the file does."""

    url: str
    size: int
    version: str


def lookup(urls: Iterable[str]) -> tuple[dict[str, Found], list[str], list[str]]:
    """(files, folders, missing) among URLs without wildcards, in their order. One listing for many of one folder."""
    parents: dict[str, list[str]] = {}
    urls = list(urls)
    for url in urls:
        parents.setdefault(url.rpartition("/")[0], []).append(url)
    files: dict[str, Found] = {}
    folders: set[str] = set()
    for parent, children in parents.items():
        _guard(children[0], partial(_lookup, parent, children, files, folders))
    missing = [url for url in urls if url not in files and url not in folders]
    return (
        {url: files[url] for url in urls if url in files},
        [url for url in dict.fromkeys(urls) if url in folders],
        missing,
    )


def below(url: str, suffixes: tuple[str, ...]) -> list[Found]:
    """The files below a folder, at any depth, whose names end in one of `suffixes`; hidden ones are left out."""
    if is_local(url):
        return _guard(url, lambda: [f for f in _scan(filesystem(url)[1]) if f.url.endswith(suffixes)])
    fs, path = filesystem(url)
    infos = _guard(url, lambda: fs.find(path, detail=True)).values()
    return [f for f in _files(fs, infos) if f.url.endswith(suffixes) and "/." not in f.url[len(url.rstrip("/")) :]]


def starting_with(url: str, suffixes: tuple[str, ...]) -> list[Found]:
    """The objects of an object store whose URL begins with `url` and ends in one of `suffixes`."""
    fs, path = filesystem(url)
    parent, _, prefix = path.rpartition("/")
    if is_local(url) or not parent:
        return []
    infos = _guard(url, lambda: fs.find(parent, prefix=prefix, detail=True)).values()
    return [f for f in _files(fs, infos) if f.url.endswith(suffixes)]


def matching(pattern: str) -> list[Found]:
    """The files that a glob (`*`, `?`, `[…]`, `**`) stands for."""
    if is_local(pattern):
        paths = glob.iglob(filesystem(pattern)[1], recursive=True)
        return _guard(pattern, lambda: [f for f in map(_local, paths) if f])
    fs, path = filesystem(pattern)
    return _files(fs, _guard(pattern, lambda: fs.glob(path, detail=True)).values())


def _lookup(parent: str, children: list[str], files: dict[str, Found], folders: set[str]) -> None:
    local = is_local(children[0])  # not the parent's: a bucket has none
    fs, path = filesystem(parent if local or len(children) >= LIST_FROM else children[0])
    names = {url.rpartition("/")[2]: url for url in children}
    if local:
        present = _present(path) if len(children) >= LIST_FROM else names
        for name in names.keys() & present:
            inside = os.path.join(path, name)
            if found := _local(inside):
                files[names[name]] = found
            elif os.path.isdir(inside):
                folders.add(names[name])
        return
    if len(children) >= LIST_FROM:
        infos = fs.ls(path, detail=True) if fs.exists(path) else []
        there = [(names.get(info["name"].rstrip("/").rpartition("/")[2]), info) for info in infos]
    else:
        there = [(url, info) for url in children if (info := _info(fs, filesystem(url)[1]))]
    for url, info in there:
        if url and info["type"] == "directory":
            folders.add(url)
        elif url:
            files[url] = _remote(fs, info)


def _info(fs: Any, path: str) -> dict[str, Any] | None:
    try:
        info: dict[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return info


def _present(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _local(path: str) -> Found | None:
    """None for what is missing or no regular file."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Found(path, status.st_size, str(status.st_mtime_ns)) if stat.S_ISREG(status.st_mode) else None


def _scan(folder: str, above: frozenset[str] = frozenset()) -> Iterator[Found]:
    """Files below a local folder. Links to folders are followed, but not in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _scan(entry.path, above | {real})
            elif found := _local(entry.path):
                yield found


def _files(fs: Any, infos: Iterable[dict[str, Any]]) -> list[Found]:
    return [_remote(fs, info) for info in infos if info["type"] == "file"]


def _remote(fs: Any, info: dict[str, Any]) -> Found:
    version = next((info[name] for name in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(name)), "")
    if isinstance(version, datetime):
        version = version.isoformat()
    return Found(fs.unstrip_protocol(info["name"]), int(info["size"] or 0), str(version).strip('"'))


def _guard(url: str, call: Callable[[], T]) -> T:
    """Storage's own errors as one message that names the URL."""
    try:
        return call()
    except VlfilterError:
        raise
    except Exception as error:  # object stores raise their own families of errors
        reason = f"{type(error).__name__}: {error}"
        if is_local(url):
            raise VlfilterError(f"{url} cannot be listed ({reason}).") from error
        raise VlfilterError(
            f"{url} cannot be listed ({reason}): check the name, the credentials (AWS_PROFILE or AWS_ACCESS_KEY_ID …) "
            "and, for a server of your own, AWS_ENDPOINT_URL."
        ) from error
