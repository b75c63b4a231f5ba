"""A data engine's run that is killed in every one of its steps goes on there, and pays for nothing twice."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows import data_engine_world as world
from tests.flows.test_data_engine import PRICE, artefacts
from tests.llm.vendor import VendorServer, prompt_of
from tests.methods.self_filter import small as clips
from tests.training import small

WAIT_S, STEPS = 900, 12
# In the order of the steps: the run dies when it asks for the n-th time what holds these words …
ASKED = {
    "classify": ("text categorization", 2),
    "generate": ("high-quality", 4),
    "verify, image": ("Look at the image", 2),
    "verify, text": ("you cannot see", 3),
}
# … or when it is about to write this file, the last of its step or one in the middle.
WRITTEN = {
    "classified": "/questions.json",
    "index": "/index/index.json",
    "evaluate": "/round_1/weight.json",
    "query": "/round_1/gptvqa_prompt.json",
    "generated": "/round_1/gptvqa_result.jsonl",
    "postprocess": "/round_1/gptvqa_generated.json",
    "verified": "/round_1/gptvqa_train_data.json",
    "mixture": "/round_1/mixture.yaml",
}
KILLS = (
    "classify", "classified", "index", "evaluate", "query", "generate", "generated", "postprocess", "verify, image",
    "verify, text", "verified", "mixture",
)  # fmt: skip


class Run:
    """The command, in a session of its own; `kill` takes all of it, the training's processes too."""

    def __init__(self, config: Path, api: str, log: Path):
        self.command = [sys.executable, "-m", "tests.flows.killed", "data-engine", "run", "--config", str(config)]
        self.env = {**os.environ, "PREFECT_API_URL": api, "OMP_NUM_THREADS": "1"}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, before: str = "") -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**self.env, "KILL_BEFORE": before}, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> int:
        assert self.process is not None
        return self.process.wait(WAIT_S)


@pytest.fixture
def run(tmp_path: Path, vendor: VendorServer, prefect_api: str) -> Iterator[Run]:
    asked = {"base_url": vendor.base_url("openai"), "cache": str(tmp_path / "answers"), "concurrency": 1, **PRICE}
    told = world.write_files(tmp_path)
    settings = {
        "model": str(small.checkpoint(tmp_path / "start")), "iters_per_epoch": STEPS, "warmup_steps": 1,
        "batch_size": 4, "save_steps": 1, "data_workers": 0,
    }  # fmt: skip
    fields = told | {
        "model": settings["model"],
        "rounds": 1,
        "classify": asked | {"group": 8},
        "evaluate": {"device": "cpu", "template": "vicuna_v1"},
        "query": told["query"] | {"clip_model": str(clips.clip(tmp_path / "clip"))},
        "generate": asked,
        "verify": asked | {"image_judge": "openai:gpt-4o", "text_judge": "openai:gpt-4o"},
        "train": told["train"] | {"settings": settings},
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(fields))
    made = Run(config, prefect_api, tmp_path / "log.txt")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def fatal(run: Run, words: str, number: int) -> Callable[[Any], str]:
    """The script, which kills the run when it is asked for the `number`th time what holds these words."""
    asked = 0

    def answer(body: Any) -> str:
        nonlocal asked
        asked += words in prompt_of(body)
        if asked == number:
            run.kill()
        return world.answer(body)

    return answer


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_in_every_step(run: Run, vendor: VendorServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for kill in KILLS:
        vendor.answer = fatal(run, *ASKED[kill]) if kill in ASKED else world.answer
        run.start(WRITTEN.get(kill, ""))
        assert run.end() == -signal.SIGKILL, f"{kill}: {run.log.read_text()}"
        assert kill not in WRITTEN or not (tmp_path / f"out{WRITTEN[kill]}").exists()
    train = out / "round_1" / "train"
    run.start()
    wait_for(lambda: steps(train) >= 3)
    run.kill()
    assert run.end() == -signal.SIGKILL
    assert not (train / "model" / "config.json").exists()
    run.start()
    assert run.end() == 0, run.log.read_text()
    assert int(re.findall(r"going on from step (\d+)", run.log.read_text())[-1]) >= 2
    assert steps(train) == STEPS

    counts = Counter(str(seen.body) for seen in vendor.questions())
    assert max(counts.values()) == 2
    assert sum(counts.values()) - len(counts) == len(ASKED)  # what was under way, once for each kill, and nothing else
    made, paid = artefacts(out), len(vendor.questions())
    shutil.rmtree(out)
    run.start()
    assert run.end() == 0, run.log.read_text()
    assert len(vendor.questions()) == paid
    again = artefacts(out)
    assert again.keys() == made.keys()
    assert [name for name in made if again[name] != made[name]] == []


def steps(folder: Path) -> int:
    """How many are in the loss curve."""
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)
