"""UniFilter (arXiv 2510.15162): synthesize → stage 1 (projector) → stage 2 (classifier) → score → select.

Each arrow is a task whose file is the proof that it is done: it returns at once where that file was made of the same
input. A step runs where its part of the parameters is given, on what the one before it left or on files named there.
What needs a GPU is a flow of its own, so that a deployment can run it on the GPU pool and the rest elsewhere.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.gpu import run_on_gpu
from flows.score_shards import score_shards
from tasks import unifilter as steps
from vlfilter.methods.unifilter.params import GPU_STEPS, STEPS, UniFilterParams
from vlfilter.methods.unifilter.preflight import check_inputs
from vlfilter.methods.unifilter.synthesis import summary_lines


def _run_name() -> str:
    params = UniFilterParams.model_validate(runtime.flow_run.parameters["params"])
    return f"unifilter {' → '.join(name for name in STEPS if getattr(params, name))} · {params.output}"


@flow(name="unifilter", flow_run_name=_run_name, persist_result=False)
def unifilter(params: UniFilterParams) -> State[Any]:
    """Make a quality classifier from synthetic data, and filter with it."""
    check_inputs(params)
    said: list[str] = []
    if step := params.synthesize:
        told = {
            "choose": steps.choose_images(step, params.output),
            "write": steps.write(step, params.output),
            "keep": steps.keep(step, params.output),
        }
        said += summary_lines(told)
    if on_gpu := params.only(*GPU_STEPS):
        state = run_on_gpu(unifilter_gpu, on_gpu, params.gpu_deployment)
        if not state.is_completed():
            return Failed(message=state.message)
        said.append(state.message or "")
    if params.select:
        said.append(steps.choose(params.select, params.places))
    return Completed(message="\n".join(said))


@flow(name="unifilter-gpu", flow_run_name=_run_name, persist_result=False)
def unifilter_gpu(params: UniFilterParams) -> State[Any]:
    """The steps of UniFilter that want a GPU: pretrain, train, score."""
    said: list[str] = []
    if settings := params.pretraining():
        said.append(steps.pretrain(settings))
    if settings := params.training():
        said.append(steps.train(settings))
    if scoring := params.scoring():
        state = score_shards(scoring, return_state=True)
        if not state.is_completed():
            return Failed(message=f"scoring: {state.message}")
        said.append(state.message or "")
    return Completed(message="\n".join(said))
