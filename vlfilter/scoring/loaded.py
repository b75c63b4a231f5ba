"""Loaded scorers, kept from shard to shard: a process pays for a model once."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Sequence

from vlfilter.data.decode import Limits
from vlfilter.data.tables import digest
from vlfilter.errors import StorageError, VlfilterError
from vlfilter.scoring.base import Portable, Preparer, Scorer, make_scorer
from vlfilter.scoring.heap import share_arenas
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.preparing import PrepareProcesses
from vlfilter.scoring.runner import BatchRunner

# Read when torch is first imported, which is when the first model loads. OpenMP's threads otherwise spin between two
# passes: with small models that is nearly half of all CPU time, taken from the threads that decode.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_lock = threading.Lock()
_kept: dict[str, tuple[str, BatchRunner | VlfilterError]] = {}
# Runners by weak references: who keeps them keeps their weights.
_processes: dict[tuple[int, tuple[str, ...]], tuple[list[weakref.ref[BatchRunner]], PrepareProcesses | None]] = {}


def load_runners(params: ScoreParams, names: Sequence[str]) -> list[BatchRunner]:
    """Runners for scorers of the run. A scorer is loaded again only when its fingerprint, options or device have
    changed; what cannot be loaded is not tried again for every shard."""
    share_arenas()
    runners = []
    for given in params.scorer:
        scorer = make_scorer(given, params.settings(given))
        if scorer.name not in names:
            continue
        where = {"device": params.device, "tokens": params.batch_tokens, "options": params.options.get(given, {})}
        version = digest({"fingerprint": scorer.fingerprint(), **where})
        with _lock:
            if _kept.get(given, ("", None))[0] != version:
                _kept.pop(given, None)  # free the old weights before the new ones come
                _kept[given] = (version, _load(scorer, params.batch_tokens))
            runner = _kept[given][1]
        if isinstance(runner, VlfilterError):
            raise runner
        runners.append(runner)
    return runners


def load_processes(params: ScoreParams, runners: Sequence[BatchRunner]) -> PrepareProcesses | None:
    """The processes that prepare for these runners, kept like them; None where threads do: on a CPU, which the model
    needs for itself, or where a scorer cannot prepare elsewhere."""
    if not _in_processes(params):
        return None
    place = (params.workers, tuple(runner.scorer.name for runner in runners))
    with _lock:
        known = _processes.get(place)
        if known is None or any(one() is not other for one, other in zip(known[0], runners, strict=True)):
            preparers = [_preparer(runner.scorer) for runner in runners]
            portable = [preparer for preparer in preparers if preparer is not None]
            made = PrepareProcesses(portable, params.workers, Limits()) if len(portable) == len(preparers) else None
            known = _processes[place] = ([weakref.ref(runner) for runner in runners], made)
        return known[1]


def _in_processes(params: ScoreParams) -> bool:
    if params.prepare_in != "auto":
        return params.prepare_in == "processes"
    if "torch" not in sys.modules:  # no model runs here
        return False
    from vlfilter.models.device import resolve_device

    return resolve_device(params.device).startswith("cuda")


def _preparer(scorer: Scorer) -> Preparer | None:
    return scorer.preparer() if isinstance(scorer, Portable) else None


def _load(scorer: Scorer, batch_tokens: int) -> BatchRunner | VlfilterError:
    parts = scorer.fingerprint()
    try:
        scorer.load()
    except StorageError:  # a server that may come back
        raise
    except VlfilterError as error:
        return error
    if scorer.fingerprint() != parts:  # a table must never name weights that did not make it
        raise VlfilterError(f"the model of {scorer.name} changed while it was loaded: run again.")
    return BatchRunner(scorer, batch_tokens, parts)
