"""The probe of the output: really written, listed, read and removed, on disk and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlfilter.data.storage import filesystem
from vlfilter.doctor.storage import check_storage


def test_a_folder(tmp_path: Path) -> None:
    found = check_storage(str(tmp_path / "new" / "place"))
    assert (found.level, found.text.split(" (")[0]) == (
        "ok",
        f"{tmp_path}/new/place can be written, listed, read and cleared",
    )
    assert list((tmp_path / "new" / "place").iterdir()) == []


def test_a_bucket(s3: str) -> None:
    assert check_storage(f"{s3}/scores/run").level == "ok"
    fs, bucket = filesystem(s3)
    assert fs.find(bucket) == []


def test_a_bucket_that_is_not_there(s3: str) -> None:
    found = check_storage(f"{s3}-not/scores")
    assert found.level == "fail"
    assert found.text.startswith(f"{s3}-not/scores cannot be written to: ")
    assert found.advice == "make the bucket, or mend its name"


def test_no_credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import _forget_connections

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _forget_connections()
    found = check_storage(f"{s3}/scores")
    assert found.level == "fail"
    assert found.advice.startswith("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = check_storage(str(tmp_path / "file" / "scores"))
    assert found.level == "fail"
    assert "cannot be written to" in found.text


def test_what_is_read_must_be_what_was_written(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, bucket = filesystem(s3)
    monkeypatch.setattr("vlfilter.doctor.storage.read_bytes", lambda url: b"something else")
    found = check_storage(f"{s3}/scores")
    assert "cannot be read: what was read is not what was written" in found.text
    assert fs.find(bucket) == []
