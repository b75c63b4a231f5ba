"""The sizes in docs/operations.md come from the results that are committed, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sizes
from benchmarks.markers import fill


def test_the_page_has_the_figures_of_today() -> None:
    page = sizes.PAGE.read_text()
    assert page == fill(page, "sizes", sizes.table(sizes.Results())), "run python -m benchmarks.sizes"


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results with round figures."""

    def write(name: str, *lines: tuple[str, float, str], **details: object) -> None:
        made = [{"what": what, "value": value, "unit": unit} for what, value, unit in lines]
        record = {"lines": made, "details": details, "machine": {"cpu": "a CPU", "gpu": "a GPU"}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))

    data = {"shards": 10, "samples_a_shard": 1000, "tar_mb": 500}
    write("clip_score", ("one more sample, engine", 4.5, "CPU-ms"), data=data)
    write(
        "gpu",
        ("some GPU, some, scoring", 100, "samples/s"),
        ("some: share", 90, "%"),
    )
    write("memory", ("engine: peak for 100 shards", 800, "MB"))
    write("second_run", ("`vlfilter score` over 1000 finished shards, wall", 2, "s"))
    write("select_rows", ("10 million rows, wall", 10, "s"), ("peak memory", 200, "MB"))
    write("reshard", ("one worker", 8000, "samples/s read"))
    write(
        "plan_shards", ("S3, no table there, wall", 20, "s"), ("S3, no table there, peak memory", 300, "MB"), shards=7
    )
    monkeypatch.setattr(sizes, "RESULTS", tmp_path)
    return tmp_path


def test_the_arithmetic(made_up: Path) -> None:
    assert {row.what: row.result for row in sizes.rows(sizes.Results())} == {
        "Shards": "1,280",
        "In the bucket": "640 GB",
        "The subset's new tars": "192 GB",
        "Cores that read and decode, and a tiny CLIP": "16.0 core-hours",
        "GPU time, some GPU, some": "35.56 GPU-hours: 35.6 h on 1, 4.4 h on 8, 67 min on 32",
        "Memory of a worker beside its model": "800 MB",
        "Plan 7 shards in a bucket": "20.0 s",
        "A second run over what is done": "2.6 s",
        "Select by two scorers": "12.8 s",
        "Reshard with one worker": "27 min",
    }


def test_what_was_not_measured_is_left_out(made_up: Path) -> None:
    (made_up / "gpu.json").unlink()
    (made_up / "plan_shards.json").unlink()
    assert len(list(sizes.rows(sizes.Results()))) == 8


def test_a_line_that_a_benchmark_has_no_more_is_missed(made_up: Path) -> None:
    (made_up / "memory.json").write_text(json.dumps({"lines": [], "details": {}, "machine": {}}))
    with pytest.raises(KeyError, match=r"memory\.json has no line"):
        sizes.table(sizes.Results())


def test_markers_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="no markers for sizes"):
        fill("a page", "sizes", "a table")
