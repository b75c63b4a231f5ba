"""Paths and object stores behind one set of calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlfilter.data.storage import check_writable, filesystem, join, open_read, read_bytes, write_bytes
from vlfilter.errors import VlfilterError


def test_s3_round_trip(s3: str) -> None:
    url = join(s3, "a", "b.bin")
    write_bytes(url, b"x" * 100)
    assert read_bytes(url) == b"x" * 100
    with open_read(url) as file:
        file.seek(90)
        assert file.read() == b"x" * 10


def test_a_new_file_is_seen_at_once(s3: str) -> None:
    fs, path = filesystem(s3)
    assert fs.ls(path) == []
    write_bytes(join(s3, "later.txt"), b"1")
    assert [entry.rsplit("/")[-1] for entry in fs.ls(path, detail=False)] == ["later.txt"]


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    write_bytes(str(tmp_path / "x" / "t.bin"), b"1")
    write_bytes(str(tmp_path / "x" / "t.bin"), b"22")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "x").iterdir()] == [("t.bin", b"22")]


def test_an_unwritable_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(VlfilterError, match="file/out is not writable"):
        check_writable(str(tmp_path / "file" / "out"))


def test_a_missing_bucket_is_not_writable(s3: str) -> None:
    with pytest.raises(VlfilterError, match="s3://no-such-bucket-here/out is not writable"):
        check_writable("s3://no-such-bucket-here/out")


def test_an_address_below_a_folder_is_a_path(tmp_path: Path) -> None:
    """As a name from data may be."""
    url = f"{tmp_path}/http://example.org/a.txt"
    write_bytes(url, b"here")
    assert read_bytes(url) == b"here"
    assert (tmp_path / "http:" / "example.org" / "a.txt").is_file()


def test_shell_pipes_are_refused() -> None:
    with pytest.raises(VlfilterError, match="not run"):
        filesystem("pipe:cat /etc/passwd")
