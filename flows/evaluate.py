"""Benchmarks: questions → answers, shard by shard → marks → scores and files to hand in, beside the published numbers.

A benchmark is a task whose tables of answers are the proof of what is done. What runs a model is a flow of its own, so
that a deployment can run it on the GPU pool; servers are asked, and answers that exist are scored, right here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.gpu import run_on_gpu
from tasks import evaluate as steps
from tasks.evaluate_artifacts import comparison_artifact
from tasks.judge import paid_judge
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarking import answerers, check_benchmarks, read_scores
from vlfilter.evaluation.params import EvaluateParams
from vlfilter.evaluation.summary import summary_line
from vlfilter.llm.client import BudgetExceededError


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
    comparison_artifact(told)
    return Completed(message="\n".join(map(summary_line, told)))


@flow(name="evaluate-gpu", flow_run_name=_run_name, persist_result=False)
def evaluate_gpu(params: EvaluateParams) -> State[Any]:
    """What of an evaluation runs a model: answers and scores lie in the output."""
    _answer_and_score(params)
    return Completed(message="\n".join(map(summary_line, read_scores(params))))


def _answer_and_score(params: EvaluateParams) -> None:
    """One benchmark after the other; one that fails does not keep the others from their turn. Raises `VlfilterError`
    that names those that failed."""
    failed: list[str] = []
    with answerers(params, partial(paid_judge, account="evaluate-cost")) as who:
        for step in params.benchmarks:
            ended: State[Any] = steps.evaluate_step(params, step, who, return_state=True)
            if ended.is_completed():
                continue
            error: Any = ended.result(raise_on_failure=False)
            if isinstance(error, BudgetExceededError):
                raise error
            failed.append(f"{step.benchmark}: {error if isinstance(error, VlfilterError) else ended.message}")
    if failed:
        raise VlfilterError("; ".join(failed))
