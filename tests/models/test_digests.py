"""Digests: content decides, they are remembered, and a broken memory does no harm."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlfilter.errors import VlfilterError
from vlfilter.models.digests import file_digest, model_digest

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLFILTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURE, tmp_path / "model")
    return tmp_path / "model"


def test_it_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    assert file_digest(path) == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_the_second_time_the_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    stat, first = path.stat(), file_digest(path)
    path.write_bytes(b"two")  # same size; put the time back, so that only reading could tell
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_digest(path) == first
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize(
    "broken", [b"", b"{", b"[]", b'{"identity": "other", "sha256": "' + b"0" * 64 + b'"}', b"\xff"]
)
def test_a_broken_cache_entry_is_replaced(tmp_path: Path, cache: Path, broken: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    first = file_digest(path)
    (entry,) = (cache / "digests").iterdir()
    good = entry.read_bytes()
    entry.write_bytes(broken)
    assert file_digest(path) == first
    assert entry.read_bytes() == good


def test_an_unwritable_cache_does_no_harm(tmp_path: Path, cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_digest(path) == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_changes_a_score_changes_the_digest(model: Path, name: str) -> None:
    before = model_digest(str(model))
    path = model / name
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    assert model_digest(str(model)) != before


def test_what_does_not_change_a_score_does_not_change_the_digest(model: Path, tmp_path: Path) -> None:
    before = model_digest(str(model))
    (model / "README.md").write_text("new")
    (model / "training_args.bin").write_bytes(b"pickle")
    os.utime(model / "model.safetensors")
    moved = model.rename(tmp_path / "elsewhere")
    assert model_digest(str(moved)) == before


def test_missing_weights_are_told(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(VlfilterError, match="has no weights"):
        model_digest(str(model))


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="does not exist"):
        model_digest(str(tmp_path / "nothing"))


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, vlfilter.models.digests, vlfilter.models.locate, vlfilter.models.clip_source\n"
        "import vlfilter.scoring.unifilter, vlfilter.scoring.clip_score\n"
        "print([m for m in ('torch', 'transformers', 'open_clip') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
