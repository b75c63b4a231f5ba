"""The benchmarks by name. A benchmark is one small class; yours is `package.module:Class`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vlfilter.errors import VlfilterError

if TYPE_CHECKING:
    from vlfilter.evaluation.benchmarks.base import Benchmark

# Names, titles and classes apart, so that a list of them loads nothing.
BENCHMARKS = {
    "seed": "vlfilter.evaluation.benchmarks.seed:Seed",
    "mmbench": "vlfilter.evaluation.benchmarks.mmbench:MMBench",
    "okvqa": "vlfilter.evaluation.benchmarks.okvqa:OkVqa",
    "vizwiz": "vlfilter.evaluation.benchmarks.vizwiz:VizWiz",
    "vsr": "vlfilter.evaluation.benchmarks.vsr:Vsr",
    "aokvqa": "vlfilter.evaluation.benchmarks.aokvqa:AokVqa",
    "refcoco": "vlfilter.evaluation.benchmarks.refcoco:RefCoco",
}
TITLES = {
    "seed": "SEED-Bench (image)",
    "mmbench": "MMBench (dev)",
    "okvqa": "OK-VQA",
    "vizwiz": "VizWiz",
    "vsr": "VSR (zero-shot)",
    "aokvqa": "A-OKVQA",
    "refcoco": "RefCOCO, RefCOCO+, RefCOCOg",
}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by its name or its class's import path. Raises `VlfilterError` when there is none."""
    from vlfilter.evaluation.benchmarks.base import Benchmark

    path = BENCHMARKS.get(name, name)
    if ":" not in path:
        raise VlfilterError(
            f"no benchmark is called {name!r}. There are: {', '.join(BENCHMARKS)}. Your own: package.module:Class."
        )
    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise VlfilterError(f"the benchmark {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Benchmark)):
        raise VlfilterError(f"{name} is no benchmark: give a class derived from {Benchmark.__module__}:Benchmark.")
    return found()
