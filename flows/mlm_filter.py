"""MLM-Filter (arXiv 2403.02677): sample → grade → balance → mix → check images → fine-tune → score → select.

Each arrow is a task whose file is the proof that it is done: it returns at once where that file was made of the same
input. A step runs where its part of the parameters is given, on what the one before it left or on files named there.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.score_shards import score_shards
from tasks import mlm_filter as steps
from vlfilter.methods.mlm_filter.params import STEPS, MlmFilterParams
from vlfilter.methods.mlm_filter.preflight import check_inputs


def _run_name() -> str:
    params = MlmFilterParams.model_validate(runtime.flow_run.parameters["params"])
    return f"mlm-filter {' → '.join(name for name in STEPS if getattr(params, name))} · {params.output}"


@flow(name="mlm-filter", flow_run_name=_run_name, persist_result=False)
def mlm_filter(params: MlmFilterParams) -> State[Any]:
    """Make a data filter from image-text pairs and a teacher's grades, and filter with it."""
    check_inputs(params)
    places = params.places
    said: list[str] = []
    if params.sample:
        said.append(steps.sample(params.sample, places))
    if params.grade:
        said.append(steps.grade(params.grade, params.version, params.output, places))
    if params.balance:
        said.append(steps.balance(params.balance, places))
    if params.mix:
        said.append(steps.mix(params.mix, places))
    if training := params.training():
        said.append(steps.check(places))
        said.append(steps.finetune(training))
    if scoring := params.scoring():
        state = score_shards(scoring, return_state=True)
        if not state.is_completed():
            return Failed(message=f"scoring: {state.message}")
        said.append(state.message or "")
    if params.select:
        said.append(steps.choose(params.select, places))
    return Completed(message="\n".join(said))
