"""Writes that happen only if nobody else was first: hard links on a disk, conditional requests on S3."""

from __future__ import annotations

import os
from typing import Any

from fsspec.asyn import sync
from fsspec.core import split_protocol

from vlfilter.data.storage import filesystem, is_local, temporary_path, write_bytes
from vlfilter.errors import StorageError, VlfilterError

_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def is_s3(url: str) -> bool:
    return split_protocol(url)[0] in ("s3", "s3a")


def create(url: str, data: bytes) -> bool:
    """Write a file that is not there yet, whole or not at all; False where one is. Other stores: plain write."""
    if is_s3(url):
        return put_if(url, data, None)
    if not is_local(url):
        write_bytes(url, data)
        return True
    path = filesystem(url)[1]
    temporary = temporary_path(path)
    write_bytes(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"cannot write {url}: {error.strerror or error}") from error
    finally:
        os.unlink(temporary)
    return True


def put_if(url: str, data: bytes, etag: str | None) -> bool:
    """Replace an S3 object that still has this etag, or create it (None); False where somebody else was first."""
    fs, path = filesystem(url)
    bucket, key = path.split("/", 1)
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    try:
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except OSError as error:
        if etag is not None and isinstance(error, FileNotFoundError):
            return False
        if _code(error) in _LOST or isinstance(error, FileExistsError):
            return False
        raise StorageError(f"cannot write {url}: {error}") from error
    return True


def get(url: str) -> tuple[str, bytes] | None:
    """The etag and the bytes of an S3 object, read at one moment."""
    fs, path = filesystem(url)
    bucket, key = path.split("/", 1)

    async def fetch() -> tuple[str, bytes]:
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        async with response["Body"] as body:
            return str(response["ETag"]), await body.read()

    try:
        found: tuple[str, bytes] = sync(fs.loop, fetch)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {url}: {error}") from error
    return found


def check_conditional(url: str) -> None:
    """Raises `VlfilterError` where a store takes conditional requests but ignores the condition."""
    put_if(url, b"{}", None)
    if put_if(url, b"{}", None) or put_if(url, b"{}", '"no-such-etag"'):
        raise VlfilterError(
            f"the object store of {url} ignores conditional writes, so that a budget cannot be shared through it: "
            "give a ledger file on a local disk."
        )


def _code(error: Any) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
