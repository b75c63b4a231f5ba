"""Local paths and object stores behind one small set of calls (fsspec)."""

from __future__ import annotations

import os
import uuid
from functools import cache
from typing import Any

import fsspec
from fsspec.core import split_protocol

from vlfilter.errors import StorageError, VlfilterError

S3_OPTIONS: dict[str, Any] = {
    # list answers are not cached: another worker may just have written the table we look for
    "use_listings_cache": False,
    "default_block_size": 8 * 2**20,
    "default_fill_cache": False,
    "config_kwargs": {"retries": {"max_attempts": 6, "mode": "adaptive"}, "connect_timeout": 10, "read_timeout": 60},
}


@cache
def _filesystem(protocol: str) -> fsspec.AbstractFileSystem:
    try:
        if protocol in ("s3", "s3a"):
            from vlfilter.data.s3_session import s3_session

            return fsspec.filesystem(protocol, session=s3_session(), **S3_OPTIONS)
        return fsspec.filesystem(protocol)
    except (ImportError, ValueError) as error:
        raise VlfilterError(f"storage {protocol!r} is not available: {error}") from error


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path or URL, and the path in it. `pipe:` and other commands are refused."""
    if url.startswith("pipe:"):
        raise VlfilterError(f"{url!r}: shell pipes are not run; give a path or an s3:// URL.")
    protocol, path = _split(url)
    if protocol in (None, "file", "local"):
        return _filesystem("file"), os.path.abspath(os.path.expanduser(path))
    return _filesystem(protocol), path.rstrip("/")


def is_local(url: str) -> bool:
    return _split(url)[0] in (None, "file", "local")


def _split(url: str) -> tuple[str | None, str]:
    """`folder/http://a` is a path below a folder (names in data may look like that), not storage `folder/http`."""
    protocol, path = split_protocol(url)
    return (None, url) if protocol and "/" in protocol else (protocol, path)


def absolute(url: str) -> str:
    """The same place for a process that runs in another folder."""
    return os.path.abspath(os.path.expanduser(url.removeprefix("file://"))) if is_local(url) else url


def join(base: str, *parts: str) -> str:
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def open_read(url: str) -> Any:
    """A seekable binary file that reads ahead and keeps no more than a few blocks in memory."""
    fs, path = filesystem(url)
    return fs.open(path, "rb") if is_local(url) else fs.open(path, "rb", cache_type="readahead")


def read_bytes(url: str) -> bytes:
    fs, path = filesystem(url)
    data: bytes = fs.cat_file(path)
    return data


def write_bytes(url: str, data: bytes) -> None:
    """Write a whole file so that a reader sees the old one, the new one, or none: never half of it."""
    fs, path = filesystem(url)
    if not is_local(url):
        fs.pipe_file(path, data)
        return
    temporary = temporary_path(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {url}: {error.strerror or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def temporary_path(path: str) -> str:
    """A hidden name beside `path`, on the same volume, that no other process uses."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def check_writable(url: str) -> None:
    """Fail now, with a clear message, rather than after an hour of scoring."""
    probe = join(url, f".vlfilter-write-check-{uuid.uuid4().hex[:8]}")
    try:
        write_bytes(probe, b"ok")
        fs, path = filesystem(probe)
        fs.rm_file(path)
    except VlfilterError as error:
        raise VlfilterError(f"the output {url} is not writable: {error}") from error
    except Exception as error:  # object stores raise their own families of errors
        raise VlfilterError(f"the output {url} is not writable: {type(error).__name__}: {error}") from error
