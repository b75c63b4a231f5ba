"""Several benchmarks with one model, loaded once, or with one server, asked through one client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from vlfilter.data.storage import filesystem, join
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.reading import read_json
from vlfilter.evaluation.choices import Choosing
from vlfilter.evaluation.direct import Writing
from vlfilter.evaluation.evaluate import SCORES, Asked, Given, evaluate
from vlfilter.evaluation.model import EvaluatedModel
from vlfilter.evaluation.params import BenchmarkStep, EvaluateParams
from vlfilter.evaluation.run import Local
from vlfilter.evaluation.server import Served
from vlfilter.evaluation.shards import Answering
from vlfilter.llm.client import Judge, JudgeSettings

log = logging.getLogger(__name__)

MakeJudge = Callable[[JudgeSettings], AbstractContextManager[Judge]]
OnShard = Callable[[int, int], None]


def evaluate_benchmarks(params: EvaluateParams, make_judge: MakeJudge = Judge) -> list[dict[str, Any]]:
    """Evaluate all benchmarks of `params`, one after the other; their scores (`scores.json`), in their order.

    What was answered in an earlier run is not asked again. Raises `VlfilterError` for inputs that are not there, before
    a model is loaded, and where a model or server answers nothing.
    """
    check_benchmarks(params)
    with answerers(params, make_judge) as who:
        return [evaluate_step(params, step, who) for step in params.benchmarks]


def check_benchmarks(params: EvaluateParams) -> None:
    """Read all questions and look for the images' folders, before anything is loaded. Raises `VlfilterError`."""
    for step in params.benchmarks:
        benchmark = find_benchmark(step.benchmark)
        reading = benchmark.read(params.source(step))
        for bad in reading.bad[:3]:
            log.warning("%s: %s", benchmark.name, bad)
        if step.answers:
            continue
        if not step.images and any(not question.item.image for question in reading.questions):
            raise VlfilterError(f"{benchmark.name}: the folder of its images is not given.")
        if step.images:
            fs, path = filesystem(step.images)
            if not fs.isdir(path):
                raise VlfilterError(f"{benchmark.name}: there is no folder {step.images} with images.")


@dataclass(frozen=True)
class Answerers:
    """Who answers: one `model` of this process for all benchmarks, or one `judge`, the server's client."""

    params: EvaluateParams
    model: EvaluatedModel | None = None
    judge: Judge | None = None

    def of(self, step: BenchmarkStep) -> Answering:
        params = self.params
        if self.judge is not None:
            who = params.server.name_of(params.model)
            labels = {"step": "evaluate", "shard": step.benchmark}
            return Served(self.judge, who, step.images, params.max_tokens, params.workers, labels)
        if self.model is None:
            raise VlfilterError("neither a model nor answers are given.")
        if params.answer_by == "likelihood":
            choosing = Choosing(self.model, whole=params.mode == "compat", led=False)
            return Local(choosing, params.run_settings(step))
        return Local(Writing(self.model, params.max_tokens, led=False), params.run_settings(step))


@contextmanager
def answerers(params: EvaluateParams, make_judge: MakeJudge = Judge) -> Iterator[Answerers]:
    """The model is loaded when its first question comes; the server's client is closed at the end."""
    if params.served:
        with make_judge(params.server.asking(params.model, params.output)) as judge:
            yield Answerers(params, judge=judge)
    else:
        yield Answerers(params, EvaluatedModel(params.model_settings()) if params.model else None)


def evaluate_step(
    params: EvaluateParams, step: BenchmarkStep, who: Answerers, on_shard: OnShard | None = None
) -> dict[str, Any]:
    """One benchmark of `params`."""
    answers: Asked | Given = Given(step.answers, step.allow_missing)
    if not step.answers:
        answers = Asked(who.of(step), params.shard, on_shard, letters=params.answer_by == "likelihood")
    benchmark, source = find_benchmark(step.benchmark), params.source(step)
    return evaluate(benchmark, source, answers, params.folder(step), params.name)


def read_scores(params: EvaluateParams) -> list[dict[str, Any]]:
    """What the benchmarks' `scores.json` say. Raises `VlfilterError` where one is missing."""
    return [read_json(join(params.folder(step), SCORES)) for step in params.benchmarks]
