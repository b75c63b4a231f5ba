"""A teacher's grades: one row for every pair and metric that was asked about, with a reason where there is no score."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError


class GradeStatus(StrEnum):
    """`empty` and `failed` may come out otherwise when asked again; the rest are final."""

    OK = "ok"
    UNPARSABLE = "unparsable"
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"
    MISSING_IMAGE = "missing_image"
    MISSING_DESCRIPTION = "missing_description"


OPEN = (GradeStatus.EMPTY, GradeStatus.FAILED, GradeStatus.MISSING_IMAGE, GradeStatus.MISSING_DESCRIPTION)


@dataclass(frozen=True, slots=True)
class Grade:
    """`score` is 0 to 100 exactly when `status` is `ok`; `answer` is the teacher's text, `version` the prompt's."""

    id: str
    image: str
    caption: str
    metric: str
    version: int
    score: int | None
    answer: str
    status: str
    reason: str
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.string()),
        ("caption", pa.string()),
        ("metric", pa.string()),
        ("version", pa.int8()),
        ("score", pa.int16()),
        ("answer", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("model", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("usd", pa.float64()),
    ]
)


def write_grades(url: str, grades: Iterable[Grade]) -> None:
    file = io.BytesIO()
    table = pa.Table.from_pylist([asdict(grade) for grade in grades], schema=SCHEMA)
    pq.write_table(table, file, compression="zstd")
    write_bytes(url, file.getvalue())


def read_grades(url: str) -> list[Grade]:
    """Raises `VlfilterError` for a file that is missing or was not written by `write_grades`."""
    try:
        table = pq.read_table(io.BytesIO(read_bytes(url)))
        return [Grade(**row) for row in table.select(SCHEMA.names).cast(SCHEMA).to_pylist()]
    except FileNotFoundError:
        raise VlfilterError(f"there are no grades {url}: the grading step writes them.") from None
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise VlfilterError(f"{url} is no table of grades ({type(error).__name__}: {error}).") from error
