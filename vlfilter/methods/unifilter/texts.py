"""What the teacher wrote: one row for every item and level that was asked for, with a reason where there is no text.

`texts.parquet` holds them as they came, `rejected.parquet` (the same columns) those that were not taken, and why.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.quality_rows import Kind, caption_text, document_text
from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.unifilter.items import Side


class Verdict(StrEnum):
    """Whether a text can be used. Those in `OPEN` may come out otherwise when asked again."""

    OK = "ok"
    # the teacher's answer
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"
    WRONG_COUNT = "wrong_count"
    MISSING_IMAGE = "missing_image"
    # the text itself
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    GIVES_AWAY = "gives_away"
    DUPLICATE = "duplicate"
    NOT_HARD = "not_hard"
    # the choice
    INCOMPLETE_SET = "incomplete_set"
    SURPLUS = "surplus"


OPEN = (Verdict.EMPTY, Verdict.FAILED, Verdict.MISSING_IMAGE)


@dataclass(frozen=True, slots=True)
class LevelText:
    """`slots` are a text's parts in order, None where an image stands; a caption has one part and no image among them.

    `tokens` and `usd` of an answer stand on its row of level 0, so that columns add up to what was paid.
    """

    item: str
    kind: Kind
    images: tuple[str, ...]
    side: Side
    level: int
    slots: tuple[str | None, ...]
    status: str
    reason: str
    version: int
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0

    @property
    def words(self) -> list[str]:
        """All words of the text, in order."""
        return " ".join(slot for slot in self.slots if slot).split()

    @property
    def text(self) -> str:
        """As a row of the published format has it."""
        return caption_text(self.slots[0] or "") if self.kind == "caption" else document_text(self.slots)


SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("kind", pa.string()),
        ("images", pa.list_(pa.string())),
        ("side", pa.string()),
        ("level", pa.int8()),
        ("slots", pa.list_(pa.string())),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("version", pa.int16()),
        ("model", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("usd", pa.float64()),
    ]
)


def write_texts(url: str, texts: Iterable[LevelText]) -> None:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(text) for text in texts], schema=SCHEMA), file, compression="zstd")
    write_bytes(url, file.getvalue())


def read_texts(url: str) -> list[LevelText]:
    """Raises `VlfilterError` for a file that is missing or was not written by `write_texts`."""
    try:
        table = pq.read_table(io.BytesIO(read_bytes(url)))
        rows = table.select(SCHEMA.names).cast(SCHEMA).to_pylist()
        return [LevelText(**row | {name: tuple(row[name]) for name in ("images", "slots")}) for row in rows]
    except FileNotFoundError:
        raise VlfilterError(f"there are no texts {url}: the teacher's step writes them.") from None
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise VlfilterError(f"{url} is no table of texts ({type(error).__name__}: {error}).") from error
