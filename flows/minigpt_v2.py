"""MiniGPT-v2 (MLLM-DataEngine, arXiv 2308.13566): check the data sets → fine-tune on their mixture → evaluate.

What is missing is told before a GPU is taken. The training is a flow of its own, so that a deployment can run it on the
GPU pool; the evaluation is the flow `evaluate`. The training's folder and the benchmarks' tables show what is done.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.evaluate import evaluate
from flows.gpu import run_on_gpu
from tasks import minigpt_v2 as steps
from vlfilter.errors import VlfilterError
from vlfilter.methods.minigpt_v2.params import STEPS, MinigptV2Params
from vlfilter.methods.minigpt_v2.preflight import check_inputs
from vlfilter.training.settings import TrainSettings


def _run_name() -> str:
    params = MinigptV2Params.model_validate(runtime.flow_run.parameters["params"])
    return f"minigpt-v2 {' → '.join(name for name in STEPS if getattr(params, name))} · {params.output}"


def _gpu_name() -> str:
    return f"minigpt-v2-gpu · {TrainSettings.model_validate(runtime.flow_run.parameters['params']).output}"


@flow(name="minigpt-v2", flow_run_name=_run_name, persist_result=False)
def minigpt_v2(params: MinigptV2Params) -> State[Any]:
    """Fine-tune MiniGPT-v2 on a mixture of data sets, and measure it."""
    check_inputs(params)
    said: list[str] = []
    if training := params.training():
        said.append(steps.check_datasets(params))
        state = run_on_gpu(minigpt_v2_gpu, training, params.gpu_deployment)
        if not state.is_completed():
            return Failed(message=f"fine-tune: {state.message}")
        said.append(state.message or "")
    if evaluation := params.evaluation():
        ended: State[Any] = evaluate(evaluation, return_state=True)
        if not ended.is_completed():
            error: Any = ended.result(raise_on_failure=False)
            if isinstance(error, VlfilterError):
                raise error
            return Failed(message=f"evaluate: {ended.message}")
        said.append(ended.message or "")
    return Completed(message="\n".join(said))


@flow(name="minigpt-v2-gpu", flow_run_name=_gpu_name, persist_result=False)
def minigpt_v2_gpu(params: TrainSettings) -> State[Any]:
    """The fine-tuning, which wants GPUs."""
    return Completed(message=steps.train(params))
