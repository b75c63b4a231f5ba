"""The demo from end to end: prepare → score → choose → (reshard, report) → evaluate.

Scoring, resharding and reporting come from outside, so that the command line runs the real flow.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlfilter import __version__
from vlfilter.data.storage import is_local
from vlfilter.demo.layout import Layout
from vlfilter.demo.threads import one_thread
from vlfilter.errors import VlfilterError

if TYPE_CHECKING:
    from vlfilter.demo.evaluate import DemoResult

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoSizes:
    """How much of everything; the defaults take some four minutes on two CPU cores."""

    pool: int = 2400
    test: int = 600
    shards: int = 10
    clean: int = 3000
    clip_steps: int = 400
    unifilter_steps: int = 350
    graded: int = 12000
    graded_epochs: int = 2
    classifier_runs: int = 3
    classifier_steps: int = 300


@dataclass(frozen=True, slots=True)
class Steps:
    """What the caller does with the demo's folder: make `layout.scores` with the models in `layout.models`, and then,
    with the subsets chosen, whatever it wants to show (reshard, report)."""

    score: Callable[[Layout], None]
    use: Callable[[Layout], None] | None = None


def prepare(output: str, seed: int = 0, sizes: DemoSizes = DemoSizes(), say: Say = print) -> Layout:
    """Write the shards and train the models, unless they lie there already from the same settings.

    Raises `VlfilterError` when `output` is not local, or holds something that is no demo.
    """
    if not is_local(output):
        raise VlfilterError(f"the demo trains models in its folder, which must be local, not {output}.")
    layout = Layout(Path(output).absolute())
    settings = {"version": __version__, "seed": seed, "sizes": asdict(sizes)}
    if layout.settings.exists():
        if json.loads(layout.settings.read_text()) == settings and layout.ready.exists():
            say("The shards and the models are there already.")
            return layout
        _clear(layout)
    elif layout.output.exists() and any(layout.output.iterdir()):
        raise VlfilterError(f"{output} holds something that is no demo: choose a new folder.")
    layout.output.mkdir(parents=True, exist_ok=True)
    layout.settings.write_text(json.dumps(settings, indent=1))

    from vlfilter.demo.data import DataSizes, write_data
    from vlfilter.demo.train import TrainSizes, train_models

    say(f"Writing {sizes.pool} image-text pairs into {sizes.shards} shards, a known part of them spoiled …")
    write_data(str(layout.output), DataSizes(sizes.pool, sizes.test, sizes.shards), seed)
    training = TrainSizes(sizes.clean, sizes.clip_steps, unifilter_steps=sizes.unifilter_steps)
    say(f"Training a small CLIP and a small UniFilter on {sizes.clean} clean pairs …")
    train_models(
        layout.output / "models",
        training,
        seed,
        lambda name, row: say(f"  {name} step {row.step}: loss {row.loss:.3f}") if row.step % 100 == 0 else None,
    )
    from vlfilter.demo.grades import GradeSizes, train_mlm_filter
    from vlfilter.training.run_folder import read_metrics

    say(f"Fine-tuning a small MLM-Filter on {sizes.graded} graded captions (graded by how each was spoiled) …")
    graded = GradeSizes(sizes.clean, sizes.graded, sizes.graded_epochs)
    tuned = train_mlm_filter(layout.output / "models" / "mlm_filter", layout.model("unifilter"), graded, seed)
    say(f"  MLM-Filter step {tuned.steps}: loss {read_metrics(tuned.metrics)[-1]['loss']:.3f}")
    layout.ready.write_text("")
    return layout


def _clear(layout: Layout) -> None:
    """Remove what an earlier demo with other settings, or a killed one, has left."""
    for name in layout.parts:
        path = layout.output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def finish(layout: Layout, seed: int, sizes: DemoSizes, seconds: dict[str, float]) -> DemoResult:
    """Measure, print the tables, and write `demo.json` and `demo.md`."""
    from rich.console import Console

    from vlfilter.demo.evaluate import EvaluateSizes, evaluate
    from vlfilter.demo.tables import show, write

    started = time.perf_counter()
    result = evaluate(layout, seed, EvaluateSizes(sizes.classifier_runs, sizes.classifier_steps))
    show(result, Console())
    write(result, layout, seed, seconds | {"evaluate": round(time.perf_counter() - started, 1)})
    return result


def main(output: str, steps: Steps, seed: int = 0, sizes: DemoSizes = DemoSizes(), say: Say = print) -> DemoResult:
    """Run the whole demo in a local folder."""
    with one_thread():
        return _run(output, steps, seed, sizes, say)


def _run(output: str, steps: Steps, seed: int, sizes: DemoSizes, say: Say) -> DemoResult:
    from vlfilter.demo.evaluate import choose

    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def done(step: str) -> None:
        nonlocal started
        seconds[step] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()

    layout = prepare(output, seed, sizes, say)
    done("prepare")
    say("Scoring with all three models …")
    steps.score(layout)
    done("score")
    choose(layout)
    done("select")
    if steps.use:
        steps.use(layout)
        done("use")
    say("Training the small classifier on each subset …")
    return finish(layout, seed, sizes, seconds)
