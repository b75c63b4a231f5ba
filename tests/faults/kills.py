"""Kills a flow's process for good, at the n-th time that it is about to touch a file of its output, and looks at what
the same command makes of that."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.truncate")
# What tells how a run went, not what it made; and what was paid for, which depends on when it was.
HOW = {"usd", "seconds", "sha256", "made", "cached", "seconds_per_item", "input_tokens", "output_tokens", "created"}
LEFT_OUT = ("answers", "train", "stage1", "tune", ".vlfilter", "run.json", "job.json", "ledger")

RUN = (
    f"""
TOUCHES = {TOUCHES!r}
"""
    + """
import importlib, json, os, signal, sys
flow_name, parser, params, root, kill_at = sys.argv[1:6]
touched = 0
def hook(event, arguments):
    global touched
    if event not in TOUCHES or not isinstance(arguments[0], (str, bytes)):
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    if root in os.fsdecode(arguments[0]):
        touched += 1
        if touched == int(kill_at):
            os.kill(os.getpid(), 9)
module, _, name = flow_name.partition(":")
flow = getattr(importlib.import_module(module), name)
parse = getattr(importlib.import_module(parser), "parse_params", None)
told = json.loads(params)
given = parse(told, "test") if parse else getattr(importlib.import_module(parser), "ScoreParams").model_validate(told)
sys.addaudithook(hook)
state = flow(given, return_state=True)
print("touched", touched, state.message)
sys.exit(not state.is_completed())
"""
)


def run(flow: str, parser: str, params: dict[str, Any], api: str, kill_at: int = 0) -> int | None:
    """How often the output was touched; None when the process was killed before its end."""
    environment = {**os.environ, "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, flow, parser, json.dumps(params), params["output"], str(kill_at)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-4000:]}"
    return int(next(line for line in done.stdout.splitlines() if line.startswith("touched")).split()[1])


def artefacts(folder: Path) -> dict[str, Any]:
    """What a run has made, by path, without what tells how it went."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or any(part.startswith(LEFT_OUT) for part in path.relative_to(folder).parts):
            continue
        if path.name.startswith(".") and name.endswith(".tmp"):  # half a file under a name that nobody reads
            continue
        if name.endswith(".parquet"):
            table = pq.read_table(path).replace_schema_metadata(None)
            found[name] = table.drop_columns([column for column in table.column_names if column in HOW])
        elif name.endswith(".json"):
            told = json.loads(path.read_bytes())
            if name.endswith(".receipt.json"):  # its parts hold digests of files in which it says what was paid
                told.pop("parts", None)
            found[name] = _made(told)
        elif name.endswith((".jsonl", ".txt", ".npy", ".tar", ".yaml", ".jpg", ".png")):
            found[name] = path.read_bytes()
    return found


def _made(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _made(one) for name, one in value.items() if name not in HOW}
    return [_made(one) for one in value] if isinstance(value, list) else value


def survives(flow: str, parser: str, params: dict[str, Any], api: str, seeds: range, kills: int = 2) -> int:
    """Runs undisturbed, then once a seed with so many kills at random moments: the artefacts are the same.

    Returns how many kills there were in all.
    """
    output = Path(params["output"])
    touched = run(flow, parser, params, api)
    assert touched, "nothing was written: there is no moment to kill at"
    expected = artefacts(output)
    assert expected
    done = 0
    for seed in seeds:
        shutil.rmtree(output)
        rng = random.Random(seed)
        for _ in range(kills):
            done += run(flow, parser, params, api, kill_at=rng.randint(1, touched)) is None
        run(flow, parser, params, api)
        found = artefacts(output)
        assert found.keys() == expected.keys(), seed
        differ = [(name, found[name], expected[name]) for name in found if found[name] != expected[name]]
        assert not differ, f"seed {seed}: {str(differ)[:4000]}"
    return done
