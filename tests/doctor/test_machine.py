"""Packages, GPU and disk, with what can be set up on any machine."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vlfilter.doctor import gpu, machine
from vlfilter.doctor.check import Check


def test_packages_that_fit() -> None:
    assert machine.check_packages().level == "ok"


def test_a_package_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["pytest<1", "no-such-package>=1", "numpy>=2; extra == 'dev'", "pytest; python_version < '3'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    found = machine.check_packages()
    version = importlib.metadata.version("pytest")
    assert found.level == "fail"
    assert found.text == f"pytest {version} is installed, vlfilter needs <1; no-such-package is missing"


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_python().level == "ok"
    monkeypatch.setattr(machine, "OLDEST", (99, 1))
    assert machine.check_python().advice == "vlfilter needs Python 99.1 or later"


@pytest.mark.parametrize(("free", "level"), [(50, "ok"), (5, "warn"), (0.5, "fail")])
def test_a_full_disk(free: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=100 * 10**9, free=int(free * 10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = list(machine.check_disk(str(tmp_path / "not" / "there" / "yet")))
    assert {check.level for check in found} == {level}
    assert f"{free:.1f} of 100.0 GB free for output" in found[0].text


def test_an_output_in_a_bucket_takes_no_disk() -> None:
    assert all("output" not in check.text for check in machine.check_disk("s3://bucket/scores"))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(("needed", "level"), [(False, "note"), (True, "fail")])
def test_no_gpu(needed: bool, level: str, no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "none")
    (found,) = gpu.check_gpu(needed)
    assert (found.name, found.level) == ("gpu", level)
    assert gpu.check_flash_attention() == Check("flash-attention", "note", "not used without a GPU")


def test_a_driver_without_a_gpu_is_told_apart(no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (found,) = gpu.check_gpu(False)
    assert (found.level, "though there is a driver" in found.text) == ("warn", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (found,) = gpu.check_gpu(False)
    assert "CUDA_VISIBLE_DEVICES hides them all" in found.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_every_gpu_is_tried() -> None:
    found = list(gpu.check_gpu(True))
    assert [check.level for check in found] == ["ok"] * torch.cuda.device_count()
    assert "GB free" in found[0].text
