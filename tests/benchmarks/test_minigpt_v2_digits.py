"""The data of MiniGPT-v2's benchmark are read by the data sets' and the benchmarks' own readers; its loop in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import minigpt_v2_digits as bench
from benchmarks.minigpt_v2_world import KINDS, Sizes, constant, make_world
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import Source
from vlfilter.training.mixture import read_mixture
from vlfilter.training.mixture_check import look_at
from vlfilter.training.mixture_rows import read_dataset


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    make_world(folder, Sizes(train=20, test=40), 0)
    return folder


def test_three_data_formats_are_ready_and_mostly_right(world: Path) -> None:
    mixture = read_mixture(str(world / "mixture.yaml"))
    states = list(look_at(mixture, 0))
    assert [(state.kind, state.rows, state.problems) for state in states] == [
        (kind, 60, ()) for kind in ("vqa", "engine_mc", "engine_da")
    ]
    asked, lettered, judged = (read_dataset(entry, 0).rows for entry in mixture.datasets)
    right = 0
    for question, choice in zip(asked, lettered, strict=True):
        shown, letter = choice.pairs[0]
        options = dict(line.split(". ", 1) for line in shown.splitlines() if line[1:3] == ". ")
        right += options[letter] == question.pairs[0][1]
    assert 40 <= right < 60, "eight people of ten are right"
    assert {row.pairs[0][1] for row in judged} == {"true", "false"}


def test_three_benchmarks_are_read_and_the_constant_is_no_gift(world: Path) -> None:
    source = Source(str(world / "test"))
    for name in bench.NAMES:
        benchmark = find_benchmark(name)
        reading = benchmark.read(source)
        assert (len(reading.questions), reading.bad) == (120, [])
        assert {question.category for question in reading.questions} == {kind.name for kind in KINDS}
        most = constant(benchmark, source)
        assert {"seed": 25, "okvqa": 15, "vsr": 50}[name] <= most < {"seed": 45, "okvqa": 40, "vsr": 70}[name]


def test_a_result_needs_a_lead_in_every_seed() -> None:
    one = {"trained": 60.0, "untrained": 10.0, "constant": 50.0}
    told = [{who: dict.fromkeys(bench.NAMES, value) for who, value in one.items()} for _ in range(3)]
    assert all(line.met is not False for line in bench.lines(told))
    told[1]["trained"]["vsr"] = 50.0
    assert [line.what for line in bench.lines(told) if line.met is False] == [
        "VSR's format, smallest lead over the best constant answers"
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_seed_in_small_beats_itself_untrained(tmp_path: Path) -> None:
    bench.make_models(tmp_path / "models", 150)
    found = bench.run_seed(tmp_path / "seed", tmp_path / "models" / "start", Sizes(600, 60), 0, 300)
    assert found["trained"]["okvqa"] > found["constant"]["okvqa"]
    assert all(found["trained"][name] > found["untrained"][name] for name in bench.NAMES)
