"""Trainings with two processes that are really killed: they shard, they resume, and nothing changes by it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from tests.training import small
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm
from vlfilter.training.launch import finetune
from vlfilter.training.run_folder import last_complete, read_metrics
from vlfilter.training.settings import TrainSettings, train_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CLOCKS = ("seconds", "tokens_per_second", "samples_per_second")


class Killer(logging.Handler):
    """Ends process number `rank` with SIGKILL as soon as the log shows a step."""

    def __init__(self, rank: int, step: int):
        super().__init__()
        self.rank, self.step, self.pids = rank, step, {}

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if found := re.match(r"rank (\d+) of \d+, process (\d+)", line):
            self.pids[int(found[1])] = int(found[2])
        if line.startswith(f'{{"step": {self.step},'):
            os.kill(self.pids[self.rank], signal.SIGKILL)


@contextmanager
def killing(rank: int, step: int) -> Iterator[None]:
    logger = logging.getLogger("vlfilter.training.launch")
    handler, level = Killer(rank, step), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def curve(settings: TrainSettings) -> list[dict[str, Any]]:
    rows = read_metrics(Path(settings.output) / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def weights(model: Path) -> dict[str, Tensor]:
    return load_file(model / "model.safetensors")


def optimizer_numbers(checkpoint: Path) -> list[int]:
    """How many trained numbers each process keeps, as its own part of a DeepSpeed checkpoint says."""
    counts = []
    for path in sorted(checkpoint.glob("global_step*/*optim_states.pt")):
        state = torch.load(path, weights_only=False)["optimizer_state_dict"]  # this test wrote it
        flat = state.get("fp32_flat_groups") or state["single_partition_of_fp32_groups"]
        counts.append(sum(part.numel() for part in flat))
    return counts


@pytest.mark.parametrize(
    ("zero", "processes", "body", "tied"),
    [("2", 2, "llama", False), ("3", 2, "qwen2", True), ("none", 1, "llama", False)],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, zero: str, processes: int, body: str, tied: bool
) -> None:
    told, model = small.data(tmp_path), small.checkpoint(tmp_path / "model", body, tied=tied)
    how = {"zero": zero, "processes": processes}
    whole = small.settings(tmp_path / "whole", told, model, **how)
    first = finetune(whole)
    killed = small.settings(tmp_path / "killed", told, model, **how)
    with killing(rank=processes - 1, step=5), pytest.raises(VlfilterError, match="Start it again to go on"):
        finetune(killed)
    found = last_complete(tmp_path / "killed" / "checkpoints")
    assert found is not None
    assert found[0] == 4
    if zero != "none":
        kept = optimizer_numbers(found[1])
        trained = sum(
            parameter.numel()
            for name, parameter in load_vlm(str(model), head="lm").model.named_parameters()
            if not name.startswith("vision.")
        )
        assert len(kept) == 2
        assert all(0.45 * trained < count < 0.55 * trained for count in kept), "each keeps its half"
    (tmp_path / "killed" / "checkpoints" / "checkpoint-5").mkdir()  # as if it had died while writing
    with pytest.raises(VlfilterError, match="at step 4: seed changed"):
        finetune(killed.model_copy(update={"seed": 1}))
    second = finetune(killed)
    assert second.resumed_from == 4
    assert curve(killed) == curve(whole)
    assert [row["step"] for row in curve(killed)] == list(range(1, 10))
    ours, theirs = weights(second.model), weights(first.model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_way_of_spreading_trains_the_same_model(tmp_path: Path) -> None:
    told, model = small.data(tmp_path), small.checkpoint(tmp_path / "model")
    ways = [("none", 1), ("none", 2), ("2", 2), ("3", 2)]
    runs = []
    for zero, processes in ways:
        settings = small.settings(tmp_path / f"{zero}-{processes}", told, model, zero=zero, processes=processes)
        result = finetune(settings)
        runs.append((curve(settings), weights(result.model)))
    before = weights(model)
    losses, expected = runs[0]
    assert not torch.allclose(expected["lm_head.weight"], before["lm_head.weight"], atol=1e-3)
    tower = [name for name in before if ".vision_tower." in name]
    for rows, state in runs[1:]:
        assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in losses], abs=1e-4)
        assert state.keys() == expected.keys()
        assert all(torch.allclose(state[name], expected[name], atol=1e-3) for name in state)
        assert all(torch.equal(state[name], before[name]) for name in tower), "the tower is frozen"


def test_stage_1_then_stage_2_from_parts_in_bfloat16(tmp_path: Path) -> None:
    told, whole = small.data(tmp_path), load_vlm(str(small.checkpoint(tmp_path / "model")), head="lm")
    language, tower = tmp_path / "language", tmp_path / "tower"
    model = LlamaForCausalLM(whole.config.body)
    model.save_pretrained(language)
    small.tokenizer().hf.save_pretrained(language)
    whole.model.vision.model.save_pretrained(tower)
    parts = {**told, "language_model": str(language), "vision_tower": str(tower), "batch_size": 8,
             "per_device_batch": 2, "max_length": 512, "device": "cpu", "processes": 2, "dtype": "bfloat16",
             "data_workers": 1, "bad_rows": 0.5, "learning_rate": 2e-3}  # fmt: skip
    first = finetune(
        train_settings({**parts, "output": str(tmp_path / "1")}, "mlm_filter_13b_projector")
    )  # the rows without an image are no captions
    assert (first.skipped, first.steps) == (6, 3)
    projector = torch.load(first.model / "mm_projector.bin", weights_only=True)
    assert {tensor.dtype for tensor in projector.values()} == {torch.bfloat16}
    alone = load_vlm(str(first.model), head="lm", base=str(language))
    assert torch.equal(alone.model.projector[0].weight, projector["model.mm_projector.0.weight"].float())
    second = finetune(
        train_settings({**parts, "output": str(tmp_path / "2"), "projector": str(first.model)}, "mlm_filter_13b")
    )
    assert second.steps == 6
    loaded = load_vlm(str(second.model), head="lm")
    state = weights(second.model)
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert loaded.config.body.model_type == "llama"
    moved = state["model.mm_projector.0.weight"].float() - projector["model.mm_projector.0.weight"].float()
    assert 0 < moved.abs().max() < 0.1, "stage 2 goes on from stage 1's projector"


def test_a_process_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    told = small.data(tmp_path)
    settings = small.settings(tmp_path / "out", told, small.checkpoint(tmp_path / "model"), zero="2", processes=2)

    class Thief(Killer):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith('{"step": 2,'):
                for path in Path(told["images"]).glob("part/*.jpg"):
                    path.unlink()

    logger = logging.getLogger("vlfilter.training.launch")
    thief, level = Thief(0, 0), logger.level
    logger.addHandler(thief)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(VlfilterError, match=r"row row-\d+ was checked, but now: image 'part/\d\.jpg' is missing"):
            finetune(settings)
    finally:
        logger.removeHandler(thief)
        logger.setLevel(level)


def test_the_processes_end_with_their_launcher(tmp_path: Path) -> None:
    told, model = small.data(tmp_path), small.checkpoint(tmp_path / "model")
    settings = small.settings(tmp_path / "out", told, model, zero="2", processes=2, epochs=300)
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stdout)\n"
        "from vlfilter.training.launch import finetune\n"
        "from vlfilter.training.settings import TrainSettings\n"
        "finetune(TrainSettings.model_validate_json(sys.argv[1]))"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", code, settings.model_dump_json()], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert launcher.stdout is not None
    pids = []
    for line in launcher.stdout:
        if found := re.match(r"rank \d of 2, process (\d+)", line):
            pids.append(int(found[1]))
        if line.startswith('{"step": 3,'):
            break
    launcher.kill()
    launcher.wait()
    with (tmp_path / "out" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # torchrun holds it until its processes have ended
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert json.loads((tmp_path / "out" / "job.json").read_text())["plan"]["processes"] == 2
    assert last_complete(tmp_path / "out" / "checkpoints") is not None
