"""Benchmarks: questions → answers, shard by shard → marks → scores and files to hand in, beside the published numbers.

A benchmark is a task whose tables of answers are the proof of what is done. What runs a model is a flow of its own, so
that a deployment can run it on the GPU pool; servers are asked, and answers that exist are scored, right here.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.gpu import run_on_gpu
from tasks import evaluate as steps
from tasks.evaluate_artifacts import category_artifacts, comparison_artifact
from tasks.judge import make_judge, spending_table
from vlfilter.evaluation.benchmarking import answerers, check_benchmarks, read_scores
from vlfilter.evaluation.params import EvaluateParams
from vlfilter.evaluation.summary import summary_line


def _run_name() -> str:
    params = EvaluateParams.model_validate(runtime.flow_run.parameters["params"])
    return f"evaluate {', '.join(step.benchmark for step in params.benchmarks)} · {params.output}"


@flow(name="evaluate", flow_run_name=_run_name, persist_result=False)
def evaluate(params: EvaluateParams) -> State[Any]:
    """Evaluate a model, or answers that exist, on benchmarks."""
    check_benchmarks(params)
    if params.on_gpu:
        state = run_on_gpu(evaluate_gpu, params, params.gpu_deployment)
        if not state.is_completed():
            return Failed(message=state.message)
    else:
        _answer_and_score(params)
    told = read_scores(params)
    for one in told:
        category_artifacts(one)
    comparison_artifact(told)
    return Completed(message="\n".join(map(summary_line, told)))


@flow(name="evaluate-gpu", flow_run_name=_run_name, persist_result=False)
def evaluate_gpu(params: EvaluateParams) -> State[Any]:
    """What of an evaluation runs a model: answers and scores lie in the output."""
    return Completed(message="\n".join(_answer_and_score(params)))


def _answer_and_score(params: EvaluateParams) -> list[str]:
    with answerers(params, make_judge) as who:
        try:
            return [summary_line(steps.evaluate_step(params, step, who)) for step in params.benchmarks]
        finally:
            if who.judge is not None:
                spending_table(who.judge.spending(), "evaluate-cost")
