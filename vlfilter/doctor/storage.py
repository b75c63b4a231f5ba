"""Whether the place for tables can be written, read and cleared."""

from __future__ import annotations

import os
import time
import uuid

import httpx

from vlfilter.data.storage import filesystem, is_local, join, read_bytes, write_bytes
from vlfilter.doctor.check import Check
from vlfilter.doctor.secrets import without_user
from vlfilter.errors import VlfilterError

PROBE = ".vlfilter-doctor"


def check_storage(url: str) -> Check:
    """Write a small object below `url`, find it in a listing, read it back and remove it."""
    if not is_local(url) and (problem := _unreachable()):
        return Check("storage", "fail", f"{url}: {problem}", "is AWS_ENDPOINT_URL right, and the store up?")
    name = f"{PROBE}-{uuid.uuid4().hex[:8]}"
    probe, content = join(url, name), uuid.uuid4().bytes
    step, started = "written to", time.perf_counter()
    try:
        fs, path = filesystem(probe)
        write_bytes(probe, content)
        try:
            step = "listed"
            if not any(found.rstrip("/").endswith(name) for found in fs.ls(path.rpartition("/")[0], detail=False)):
                raise VlfilterError("a new object is not in the list")
            step = "read"
            if read_bytes(probe) != content:
                raise VlfilterError("what was read is not what was written")
        finally:
            fs.rm_file(path)
        step = "cleared"
        if fs.exists(path):
            raise VlfilterError("a removed object is still there")
    except Exception as error:  # object stores raise their own families of errors
        reason = str(error) if isinstance(error, VlfilterError) else f"{type(error).__name__}: {error}"
        return Check("storage", "fail", f"{url} cannot be {step}: {reason}", "" if is_local(url) else _advice(reason))
    milliseconds = 1000 * (time.perf_counter() - started)
    return Check("storage", "ok", f"{url} can be written, listed, read and cleared ({milliseconds:.0f} ms)")


def _unreachable() -> str:
    """Why nothing answers at the endpoint; its client would try for half a minute before it says so."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return ""
    try:
        httpx.get(endpoint, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"nothing answers at {without_user(endpoint)} ({type(error).__name__}: {error})"
    return ""


def _advice(reason: str) -> str:
    """The usual cause of an object store's answer."""
    said = reason.lower()
    if "credentials" in said or "invalidaccesskeyid" in said or "signaturedoesnotmatch" in said:
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"
    if "connect" in said or "endpoint" in said or "timeout" in said:
        return "is AWS_ENDPOINT_URL right, and the store reachable from here?"
    if "forbidden" in said or "accessdenied" in said or "permission" in said:
        return "allow s3:ListBucket on the bucket, s3:GetObject, s3:PutObject and s3:DeleteObject below the prefix"
    if "nosuchbucket" in said or "bucket does not exist" in said:
        return "make the bucket, or mend its name"
    return ""
