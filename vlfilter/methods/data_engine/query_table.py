"""The table beside a file of queries: how each image and type was chosen, and what was shown."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.storage import write_bytes
from vlfilter.methods.data_engine.anchors import anchor_name
from vlfilter.methods.data_engine.queries import Query

QUERY_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), False),
        pa.field("image_id", pa.string(), False),
        pa.field("question_type", pa.string(), False),
        pa.field("how", pa.string(), False),
        pa.field("anchor", pa.string()),
        pa.field("cosine", pa.float32()),
        pa.field("in_context", pa.list_(pa.string()), False),
        pa.field("status", pa.string(), False),
        pa.field("reason", pa.string()),
    ]
)


def write_query_table(queries: Sequence[Query], url: str) -> None:
    """One row a query, in their order."""
    table = pa.Table.from_pylist(
        [
            {
                "number": number,
                "image_id": str(query.image),
                "question_type": query.question_type,
                "how": query.how,
                "anchor": anchor_name(query.examples[0]) if query.how == "retrieval" or query.reason else None,
                "cosine": query.cosine,
                "in_context": [row.question_id for row in query.examples],
                "status": "ok",
                "reason": query.reason,
            }
            for number, query in enumerate(queries)
        ],
        QUERY_SCHEMA,
    )
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    write_bytes(url, file.getvalue())


def query_table_url(output: str) -> str:
    """Where it lies: beside `output`, a .json."""
    return output.removesuffix(".json") + ".parquet"
