"""Selection as a step: done when the subset is the one that the same tables and the same rule would give."""

from __future__ import annotations

from typing import Any

from vlfilter.data.listing import below
from vlfilter.data.receipts import finished, write_receipt
from vlfilter.data.storage import absolute, filesystem
from vlfilter.data.tables import digest
from vlfilter.selection.select import select

CODE_VERSION = 1


def choose(scores: str, rule: str, output: str) -> dict[str, Any]:
    """Write the subset of `rule`. Returns `rows`, `candidates`, `kept` and `lines`, the summary for people."""
    fs, path = filesystem(scores)
    there = below(absolute(scores), (".parquet",)) if fs.exists(path) else []
    tables = [[found.url, found.size, found.version] for found in there]
    parts = {"code": CODE_VERSION, "where": rule, "tables": digest({"tables": tables})}
    if tables and (known := finished(output, parts)) is not None:
        return known
    chosen = select(scores, output, where=rule)
    summary = {"rows": chosen.rows, "candidates": chosen.candidates, "kept": chosen.kept, "lines": chosen.lines()}
    return write_receipt(output, parts, summary)
