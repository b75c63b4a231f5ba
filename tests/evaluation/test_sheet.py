"""A sheet holds texts as texts, whatever they look like."""

from __future__ import annotations

import io

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks.sheet import read_sheet, sheet

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)


@given(st.lists(st.fixed_dictionaries({"index": st.integers(0, 10**9), "question": TEXTS, "prediction": TEXTS})))
def test_what_is_written_is_read(rows: list[dict[str, object]]) -> None:
    assert read_sheet(sheet(rows), "x.xlsx") == rows


def test_formulas_and_control_characters() -> None:
    data = sheet([{"index": 1, "prediction": "=1+1"}, {"index": 2, "prediction": "a\x07b"}])
    page = openpyxl.load_workbook(io.BytesIO(data)).active
    assert (page["B2"].value, page["B2"].data_type) == ("=1+1", "s")
    assert page["B3"].value == "a?b"


def test_another_file_is_named() -> None:
    with pytest.raises(VlfilterError, match="x is not a sheet"):
        read_sheet(b"PK no", "x")
