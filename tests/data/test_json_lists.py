"""JSON lists an entry at a time: what json.loads reads, and a message for what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlfilter.data import json_lists
from vlfilter.data.json_lists import stream_list, whole_file
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VALUES, max_size=6), st.booleans(), st.sampled_from([None, 1]), st.integers(1, 40))
def test_equals_json_loads_wherever_blocks_end(
    tmp_path: Path, entries: list[Any], ascii_only: bool, indent: int | None, block: int
) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(entries, ensure_ascii=ascii_only, indent=indent), "utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "BLOCK", block)
        assert list(stream_list(str(path))) == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a JSON list of turns"),
        ('{"a": 1}', "is not a JSON list of turns"),
        ("[1, 2", "no comma behind entry 1"),
        ("[1, ", "entry 1: Expecting value"),
        ('[{"a": 1}, {"b": ]', "entry 1: Expecting value"),
        ("[1 2]", "no comma behind entry 0"),
        ("[1] [2]", "something follows"),
        ("[1,]", "entry 1"),
        ("[" * 100_000, "entry 0"),
    ],
)
def test_what_is_no_list_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(VlfilterError, match=message) as error:
        list(stream_list(str(path), "turns"))
    assert "bad.json" in str(error.value)


def test_other_encodings_and_missing_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'["caf\xe9"]')
    with pytest.raises(VlfilterError, match="UTF-8"):
        list(stream_list(str(tmp_path / "latin.json")))
    with pytest.raises(VlfilterError, match="no file"):
        list(stream_list(str(tmp_path / "absent.json")))
    (tmp_path / "mark.json").write_bytes("\ufeff[1]".encode())
    assert list(stream_list(str(tmp_path / "mark.json"))) == [1]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_file_is_whole_or_not_there(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base = str(tmp_path) if where == "local" else str(request.getfixturevalue("s3"))
    url = f"{base}/folder/file.json"
    with pytest.raises(ZeroDivisionError), whole_file(url) as file:
        file.write(b"half of it")
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError):
        read_bytes(url)
    with whole_file(url) as file:
        file.write(b"all ")
        file.write(b"of it")
    assert read_bytes(url) == b"all of it"
    if where == "local":
        assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file.json"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(VlfilterError, match="cannot write"), whole_file(str(tmp_path / "file" / "x.json")):
        pass
