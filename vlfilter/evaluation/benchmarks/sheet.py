"""One sheet in Excel's format. openpyxl is imported when it is written or read."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from vlfilter.errors import VlfilterError

_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # control characters that the format has no place for


def sheet(rows: Sequence[dict[str, Any]]) -> bytes:
    """A first line of column names, then the rows; empty texts are empty cells. Texts stay texts, formulas too."""
    import openpyxl

    book = openpyxl.Workbook()
    page = book.active
    page.title = "Sheet1"
    names = list(rows[0]) if rows else []
    for number, values in enumerate([names, *([row[name] for name in names] for row in rows)], 1):
        for column, value in enumerate(values, 1):
            if value == "":
                continue
            cell = page.cell(number, column)
            if isinstance(value, str):
                cell.value = _UNWRITABLE.sub("?", value)
                cell.data_type = "s"
            else:
                cell.value = value
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def read_sheet(data: bytes, url: str) -> list[dict[str, Any]]:
    """The rows of the first sheet by its first line's names. Raises `VlfilterError` for another file."""
    import zipfile

    import openpyxl

    try:
        page = openpyxl.load_workbook(io.BytesIO(data), read_only=True).worksheets[0]
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, OSError) as error:
        raise VlfilterError(f"{url} is not a sheet in Excel's format: {error}") from None
    rows = page.iter_rows(values_only=True)
    names = [str(name) for name in next(rows, ())]
    return [{name: "" if cell is None else cell for name, cell in zip(names, row, strict=False)} for row in rows]
