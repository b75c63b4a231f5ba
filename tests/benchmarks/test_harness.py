"""What the benchmarks count, and the table that is made of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.table import number, section

BURN = "sum(i * i for i in range(2_000_000))"


def test_the_cpu_time_of_orphans_is_counted() -> None:
    grandchild = BURN
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {grandchild!r}])"
    alone, _ = harness.run_program([sys.executable, "-c", BURN])
    measured, _ = harness.run_program([sys.executable, "-c", child])
    assert measured.cpu_s > alone.cpu_s / 2  # the child itself does nothing


def test_memory_is_the_whole_tree_s() -> None:
    hold = f"block = b'x' * 80_000_000; {BURN}; {BURN}"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    measured, _ = harness.run_program([sys.executable, "-c", child])
    assert 80 < measured.peak_mb < 160


def test_a_failed_program_says_what_it_printed() -> None:
    with pytest.raises(harness.ProgramError, match="ended with 3:\nno such luck"):
        harness.run_program([sys.executable, "-c", "import sys; print('no such luck'); sys.exit(3)"])


def test_limits() -> None:
    assert harness.at_most("x", 4.5, "s", 4.5).met
    assert not harness.at_most("x", 4.6, "s", 4.5).met
    assert harness.at_least("x", 5, "×", 5).met
    assert not harness.at_least("x", 4.9, "×", 5).met


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.00002, "2.0e-05"), (4.0581, "4.058"), (12441.0, "12,441"), (999.96, "1000")]
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_result_is_kept_and_a_missed_limit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    lines = [harness.at_most("wall", 12.0, "s", 10, baseline=20.0, baseline_name="pandas")]
    assert harness.write_result("thing", lines, {}) is False
    assert (tmp_path / "thing.json").is_file()


def test_the_table_shows_every_line() -> None:
    line = harness.at_most("wall", 12.0, "s", 10, baseline=20.0, baseline_name="pandas")
    record = {
        "benchmark": "thing",
        "command": "python -m benchmarks.thing",
        "commit": "abc",
        "date": "2026-01-01",
        "machine": harness.machine(),
        "lines": [asdict(line)],
    }
    assert "| wall | 12 s | ≤ 10 | **no** | 20 (pandas) |" in section(record, "What for.")
