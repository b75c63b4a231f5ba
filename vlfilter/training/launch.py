"""Starts a fine-tuning run: checks everything, then torchrun with one process a GPU, and reports how it went."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vlfilter.data.storage import absolute
from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json
from vlfilter.training.plan import Plan, differences, identity, make_plan
from vlfilter.training.run_folder import RunFolder, last_complete, read_done, read_metrics, write_json
from vlfilter.training.settings import TrainSettings
from vlfilter.training.worker import WATCHED

if TYPE_CHECKING:
    from vlfilter.training.mixture_objective import CheckedMixture
    from vlfilter.training.objective import CheckedFile

logger = logging.getLogger(__name__)
TAIL = 30  # lines of a failed run's log in the error
GRACE = 20  # seconds that processes have to end


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """A finished run. `model` is its folder, `metrics` the loss curve (one JSON object a step).

    `fresh` tells that this call trained, `resumed_from` from which step it went on (0: the beginning).
    """

    model: Path
    metrics: Path
    log: Path
    rows: int
    skipped: int
    steps: int
    fresh: bool
    resumed_from: int = 0


def finetune(settings: TrainSettings) -> FinetuneResult:
    """Train to the end, from where an earlier call was interrupted; a finished run is returned at once.

    Raises `VlfilterError`: before any process starts, for settings, data or weights that do not fit, and for a folder
    that holds another run; afterwards with the traceback of the process that failed.
    """
    places = ("data", "mixture", "validation", "features", "images", "output")
    settings = settings.model_copy(update={name: absolute(url) for name in places if (url := getattr(settings, name))})
    folder = RunFolder(Path(settings.output))
    with _locked(folder) as lock:
        plan = make_plan(settings)
        if settings.report_to == "wandb" and importlib.util.find_spec("wandb") is None:
            raise VlfilterError("report_to is wandb, which is not installed: `pip install wandb`, or report_to none.")
        wanted = identity(settings, plan)
        done = read_done(folder)
        if done is not None:
            _same(done["identity"]["what"], wanted["what"], folder, "holds a finished model of other settings")
            return _result(folder, done, fresh=False, resumed_from=0)
        found = last_complete(folder.checkpoints)
        if found and folder.job.is_file():
            before = read_json(folder.job)["identity"]
            holds = f"holds a run of other settings, at step {found[0]}"
            _same(before["what"] | before["how"], wanted["what"] | wanted["how"], folder, holds)
        checked = _checked_data(settings, plan, folder, wanted, resumed=found is not None)
        write_json(folder.job, {"settings": settings.model_dump(), "plan": asdict(plan), "identity": wanted})
        _train(folder, settings, plan, lock)
        finished = {
            "identity": wanted, "settings": settings.model_dump(mode="json"), "plan": asdict(plan),
            "rows": checked.rows, "skipped": checked.skipped,
        }  # fmt: skip
        write_json(folder.done, finished)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)  # optimizer states, many times the model's size
        return _result(folder, finished, fresh=True, resumed_from=found[0] if found else 0)


def _result(folder: RunFolder, done: dict[str, Any], *, fresh: bool, resumed_from: int) -> FinetuneResult:
    rows = read_metrics(folder.metrics)
    return FinetuneResult(
        folder.model, folder.metrics, folder.log, done["rows"], done["skipped"], rows[-1]["step"] if rows else 0,
        fresh, resumed_from,
    )  # fmt: skip


def _same(before: dict[str, Any], now: dict[str, Any], folder: RunFolder, holds: str) -> None:
    if changed := differences(before, now):
        raise VlfilterError(
            f"{folder.path} {holds}: {', '.join(changed)} changed. Choose another output, or remove this one."
        )


@contextmanager
def _locked(folder: RunFolder) -> Iterator[IO[str]]:
    """One run in a folder at a time. torchrun inherits the lock: it is held until the last process has ended."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = folder.lock.open("a")
    except OSError as error:
        raise VlfilterError(f"the output {folder.path} is not writable: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VlfilterError(
                f"another run trains in {folder.path}: wait for it, or choose another output."
            ) from None
        yield lock


def _checked_data(
    settings: TrainSettings, plan: Plan, folder: RunFolder, wanted: dict[str, Any], *, resumed: bool
) -> CheckedFile | CheckedMixture:
    """The report on the data; a resumed run keeps the one that it began with: the same rows in the same order."""
    from vlfilter.models.bodies import attention
    from vlfilter.training.lora import adapted_layers, lora_config
    from vlfilter.training.mixture_objective import CheckedMixture, MixedConversations
    from vlfilter.training.objective import CheckedFile, make_objective
    from vlfilter.training.start import build_empty, open_start

    key = {name: wanted["what"].get(name) for name in ("data", "validation", "features", "images", "max_length",
                                                       "template", "bos", "objective", "start_token")}  # fmt: skip
    if settings.mixture:
        key |= {name: wanted["what"][name] for name in ("mixture", "seed")}
    if resumed and folder.report.is_file() and (stored := read_json(folder.report)).get("key") == key:
        return (CheckedMixture if settings.mixture else CheckedFile).from_json(stored["data"])
    start = open_start(settings)
    empty = build_empty(
        start, attention(start.config.body.model_type, "cpu"), str(settings.model or settings.language_model)
    )
    if lora := lora_config(settings):
        adapted_layers(empty.body, lora.targets)
    if settings.mixture:
        mixed = MixedConversations(settings, start, empty.image_tokens)
        logger.info("checking the data sets of %s and their images", settings.mixture)
        found = mixed.check(plan)
        write_json(folder.report, {"key": key, "data": found.to_json()})
        mixed.require(found)
        for name, one in found.datasets.items():
            told = (name, len(one.report.used), one.rows, one.skipped, sum(one.filtered.values()), one.not_sampled)
            logger.info("%s: %d of %d rows; %d cannot be used, %d filtered, %d not sampled", *told)
        return found
    objective = make_objective(settings, start, empty.image_tokens)
    urls = {name: url for name in ("data", "validation") if (url := getattr(settings, name))}
    checked = {}
    for name, url in urls.items():
        logger.info("checking %s and its images in %s", url, settings.images)
        checked[name] = objective.check(url)
    write_json(folder.report, {"key": key, **{name: found.to_json() for name, found in checked.items()}})
    for name, url in urls.items():
        objective.require(url, checked[name])
        if count := checked[name].skipped:
            logger.warning("%d rows of %s are skipped; %s tells which and why", count, url, folder.report)
    return checked["data"]


def environment(plan: Plan) -> dict[str, str]:
    """What the processes need in their environment beside ours."""
    own = {WATCHED: "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    own["PYTHONWARNINGS"] = os.environ.get("PYTHONWARNINGS", "ignore::FutureWarning")  # DeepSpeed's, a hundred a run
    own["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // plan.processes))
    if plan.device == "cpu":
        own |= {"DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    return own


def command(plan: Plan, job: Path) -> list[str]:
    """torchrun on this machine alone."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(plan.processes),
        "-m", "vlfilter.training.worker", str(job),
    ]  # fmt: skip


def _train(folder: RunFolder, settings: TrainSettings, plan: Plan, lock: IO[str]) -> None:
    for old in folder.errors():
        old.unlink()
    tail: deque[str] = deque(maxlen=TAIL)
    started = time.monotonic()
    with folder.log.open("a") as log:
        process = subprocess.Popen(  # noqa: S603
            command(plan, folder.job), env=os.environ | environment(plan), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
            pass_fds=(lock.fileno(),),
        )  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                tail.append(line.rstrip())
                logger.info("%s", line.rstrip())
            code = process.wait()
        finally:
            _end(process)
    if code:
        raise VlfilterError(_failure(folder, code, tail, settings))
    logger.info("trained in %.0f s: %s", time.monotonic() - started, folder.model)


def _end(process: subprocess.Popen[str]) -> None:
    """Closing the standard input ends the workers, a signal torchrun; whoever stays is killed."""
    assert process.stdin is not None
    process.stdin.close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _failure(folder: RunFolder, code: int, tail: Sequence[str], settings: TrainSettings) -> str:
    """The first error that a process wrote down, else the end of the log."""
    again = "Start it again to go on from the last checkpoint."
    for path in folder.errors():
        text = path.read_text().strip()
        if "Traceback" not in text:
            return text
        lines = text.splitlines()[-TAIL:]
        return f"training in {settings.output} failed:\n" + "\n".join(lines) + f"\n{again}"
    return f"training in {settings.output} ended with exit code {code}:\n" + "\n".join(tail) + f"\n{again}"
