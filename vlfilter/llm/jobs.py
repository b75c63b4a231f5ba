"""The records of batch jobs under way: written before a job is handed in, gone when its answers are fetched."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlfilter.data.storage import filesystem, join, read_bytes, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.llm.objects import create

SUBMITTING_S = 900.0  # how long a living process may take to hand a job in


@dataclass(frozen=True, slots=True)
class Job:
    """`tag` is the hash of its questions, `id` the vendor's once it has one, `host` and `pid` are who hands it in.

    `requests`: cache key → [labels, worst cost in billionths of a dollar, index in `kinds`]; `size` is how many were
    handed in; `kinds`: what answers are read by, [max_tokens, schema]. `collected`: its answers are fetched, but for
    those in `requests`, which only who asked them can take.
    """

    tag: str
    vendor: str
    model: str
    server: str
    created: float
    host: str
    pid: int
    size: int
    requests: Mapping[str, Any]
    id: str | None = None
    kinds: Sequence[Any] = ()
    collected: bool = False

    @property
    def ticket(self) -> str:
        """Under which the ledger holds its money."""
        return f"batch-{self.tag}"

    @property
    def worst(self) -> int:
        """What all of it costs at most, in billionths of a dollar."""
        return sum(worst for _, worst, *_ in self.requests.values())

    def owner_lives(self, submitting: set[str]) -> bool:
        """Whether the process that writes the id may still be at it; `submitting` are this process's own."""
        if self.host == socket.gethostname():
            if self.pid == os.getpid():
                return self.tag in submitting
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
            except PermissionError:
                pass  # it lives and is somebody else's
        return time.time() - self.created < SUBMITTING_S


class JobStore:
    """`batches/TAG.json` in the cache."""

    def __init__(self, cache: str):
        self._folder = join(cache, "batches")

    def place(self, tag: str) -> str:
        return join(self._folder, f"{tag}.json")

    def load(self, tag: str) -> Job | None:
        try:
            return Job(**json.loads(read_bytes(self.place(tag))))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise VlfilterError(
                f"the record {self.place(tag)} of a batch is damaged ({error}): move it away."
            ) from None

    def all(self, vendor: str, model: str, server: str) -> list[Job]:
        return [job for job in self.everyones() if (job.vendor, job.model, job.server) == (vendor, model, server)]

    def everyones(self) -> list[Job]:
        """Of all vendors, models and servers."""
        fs, folder = filesystem(self._folder)
        try:
            names = sorted(str(name).split("/")[-1] for name in fs.ls(folder, detail=False, refresh=True))
        except FileNotFoundError:
            return []
        jobs = [self.load(name.removesuffix(".json")) for name in names if name.endswith(".json")]
        return [job for job in jobs if job is not None]

    def create(self, job: Job) -> bool:
        """False where the same questions are there already."""
        return create(self.place(job.tag), _bytes(job))

    def write(self, job: Job) -> None:
        write_bytes(self.place(job.tag), _bytes(job))

    def remove(self, job: Job) -> None:
        fs, path = filesystem(self.place(job.tag))
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(path)


def _bytes(job: Job) -> bytes:
    return json.dumps(asdict(job)).encode()
