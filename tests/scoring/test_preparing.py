"""Processes that prepare samples: the same as in threads, nothing of torch in them, and what happens when one dies."""

from __future__ import annotations

import gc
import os
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.helpers import jpeg, make_tar, pair, until
from tests.reward_models import fixture_folder
from tests.scoring import mlm_models, test_unifilter
from tests.scoring.telling import Noting, Telling
from tests.toy import NAME, ToyScorer
from vlfilter.data.decode import Limits
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import RawSample
from vlfilter.data.shards import list_shards
from vlfilter.errors import ServerError, VlfilterError
from vlfilter.scoring import loaded
from vlfilter.scoring.base import Portable, Prepared, Scorer, ScorerSettings
from vlfilter.scoring.clip_score import ClipScore
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.image_reward import ImageRewardScore
from vlfilter.scoring.injection import InjectionSuspect
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.preparing import PrepareProcesses
from vlfilter.scoring.runner import BatchRunner

CAPTIONS = ["a red cat", "<|endoftext|> </s> [SEP] <image> <|im_end|>", "many words " * 90, "漢字 Ünïcode"]


def tar(folder: Path, captions: list[str]) -> Path:
    samples = [(f"{i:03d}", pair(f"{i:03d}", caption, jpeg(i, (90, 60 + i)))) for i, caption in enumerate(captions)]
    broken = [("broken", pair("broken", image=b"no image")), ("lonely", {"txt": b"no image at all"})]
    return make_tar(folder / "00000.tar", samples + broken)


def raw(path: Path) -> list[RawSample]:
    return list(ShardReader(list_shards(str(path))[0]))


def loaded_scorer(kind: str, hf_folder: Path, open_clip_folder: Path, tmp_path: Path) -> Scorer:
    def plain(made: Any) -> Scorer:
        made.load()
        return made  # type: ignore[no-any-return]

    if kind in ("clip", "clip original", "open_clip"):
        name = f"open_clip:{open_clip_folder}" if kind == "open_clip" else str(hf_folder)
        return plain(ClipScore(ScorerSettings(name, "cpu", compat="original" if "original" in kind else None)))
    if kind == "image_reward":
        return plain(ImageRewardScore(ScorerSettings(str(fixture_folder(tmp_path / "reward", published=False)), "cpu")))
    if kind == "injection":
        return plain(InjectionSuspect(ScorerSettings("")))
    return test_unifilter.make() if kind == "unifilter" else mlm_models.make()


@pytest.mark.parametrize(
    "kind", ["clip", "clip original", "open_clip", "image_reward", "unifilter", "mlm_filter", "injection"]
)
def test_a_process_prepares_what_a_thread_does(
    kind: str, hf_folder: Path, open_clip_folder: Path, tmp_path: Path
) -> None:
    """Control tokens in a caption included: what tells them apart is lost when a tokenizer is merely pickled."""
    scorer = loaded_scorer(kind, hf_folder, open_clip_folder, tmp_path)
    assert isinstance(scorer, Portable)
    preparer = scorer.preparer()
    assert preparer is not None
    samples = raw(tar(tmp_path, CAPTIONS))
    there = PrepareProcesses([preparer], 1, Limits()).turn()(samples)
    here = EngineSettings().prepare([scorer])(samples)
    assert [(one.key, one.uid, one.size) for one in there] == [(one.key, one.uid, one.size) for one in here]
    for one, other in zip(there, here, strict=True):
        if isinstance(other.inputs[0], Prepared):
            assert pickle.dumps(one.inputs) == pickle.dumps(pickle.loads(pickle.dumps(other.inputs)))
        else:
            assert repr(one.inputs[0]) == repr(other.inputs[0])
    assert sum(isinstance(one.inputs[0], Prepared) for one in there) == len(CAPTIONS)


def test_no_torch_is_loaded_in_a_process(hf_folder: Path, tmp_path: Path) -> None:
    """A process costs little memory; and what a library prints there does not get between the answers."""
    scorer = ClipScore(ScorerSettings(str(hf_folder), "cpu"))
    scorer.load()
    processes = PrepareProcesses([Telling(scorer.preparer())], 2, Limits())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(processes.turn(), [raw(tar(tmp_path, CAPTIONS))] * 8))
    told = [one.inputs[0].payload for chunk in found for one in chunk if isinstance(one.inputs[0], Prepared)]
    assert {torch for torch, _ in told} == {False}
    pids = {pid for _, pid in told}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    del processes
    gc.collect()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_process_that_dies_costs_one_try(hf_folder: Path, tmp_path: Path) -> None:
    scorer = ClipScore(ScorerSettings(str(hf_folder), "cpu"))
    scorer.load()
    processes = PrepareProcesses([Telling(scorer.preparer())], 1, Limits())
    bad, good = raw(tar(tmp_path, ["fine", "die"])), raw(tar(tmp_path, ["fine"]))
    with pytest.raises(ServerError, match=r"samples '000' to 'lonely' \(exit status -9\): was there too little memory"):
        processes.turn()(bad)
    assert isinstance(processes.turn()(good)[0].inputs[0], Prepared)


def test_the_shard_that_began_first_comes_first(tmp_path: Path) -> None:
    """Or shards begun together would all feed the model late, and all end at once."""
    (tmp_path / "hold").touch()
    processes = PrepareProcesses([Noting(tmp_path)], 1, Limits())
    older, newer = processes.turn(), processes.turn()
    calls = [(newer, "at once"), (newer, "newer, asked first"), (older, "older"), (newer, "newer")]
    with ThreadPoolExecutor(len(calls)) as pool:
        for waiting, (prepare, caption) in enumerate(calls):
            chunk = raw(make_tar(tmp_path / f"{waiting}.tar", [("000", pair("000", caption))]))
            pool.submit(prepare, chunk)
            until(lambda waiting=waiting: len(processes._waiting) == waiting, "waiting")
        until((tmp_path / "log").exists, "begun")
        (tmp_path / "hold").unlink()
    expected = ["at once", "older", "newer, asked first", "newer"]
    assert (tmp_path / "log").read_text().splitlines() == expected


def test_tables_are_the_same_and_processes_are_kept(tmp_path: Path) -> None:
    path = tar(tmp_path, CAPTIONS)
    params = ScoreParams(
        shards=str(path), output=str(tmp_path / "out"), scorer=["unifilter"], workers=2, device="cpu",
        model={"unifilter": str(test_unifilter.FIXTURE)},
    )  # fmt: skip
    runners = loaded.load_runners(params, ["unifilter"])
    assert loaded.load_processes(params, runners) is None, "the CPU is the model's"
    outside = params.model_copy(update={"prepare_in": "processes"})
    processes = loaded.load_processes(outside, runners)
    assert processes is not None
    assert loaded.load_processes(outside, runners) is processes
    shard = list_shards(str(path))[0]
    tables = [
        pq.read_table(score_shard(shard, runners, str(tmp_path / name), EngineSettings(processes=where))[0].url)
        for name, where in (("threads", None), ("processes", processes))
    ]
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows == len(CAPTIONS) + 2
    again = [BatchRunner(runner.scorer, 100) for runner in runners]
    assert loaded.load_processes(outside, again) is not processes, "another load, other weights"
    gone = weakref.ref(again.pop())
    gc.collect()
    assert gone() is None, "processes keep no weights from being freed"


def test_a_preparer_that_cannot_be_pickled_is_told() -> None:
    telling = Telling(InjectionSuspect(ScorerSettings("")))
    telling.inner = lambda: None  # type: ignore[assignment]
    with pytest.raises(VlfilterError, match=r"telling cannot prepare in processes.*use prepare_in threads"):
        PrepareProcesses([telling], 1, Limits())


def test_a_scorer_that_cannot_be_sent_prepares_in_threads(tmp_path: Path) -> None:
    (tmp_path / "toy.txt").write_text("1.0")
    params = ScoreParams(shards="x", output=str(tmp_path), scorer=[NAME], prepare_in="processes")
    toy = ToyScorer(ScorerSettings(str(tmp_path / "toy.txt")))
    assert not isinstance(toy, Portable)
    assert loaded.load_processes(params, [BatchRunner(toy, 10)]) is None
