"""The errors people see: every message says which thing is wrong and what to do about it."""

from __future__ import annotations


class VlfilterError(Exception):
    """A mistake or a missing piece that the user can mend; shown as one message, without a traceback."""


class StorageError(VlfilterError):
    """A place cannot be written or read now; worth another try."""


class ServerError(StorageError):
    """A server that computes for us does not answer now; worth another try."""


class ShardError(VlfilterError):
    """One shard cannot be read at all; the others go on."""
