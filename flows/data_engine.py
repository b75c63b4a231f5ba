"""MLLM-DataEngine (arXiv 2308.13566): classify once, then rounds of evaluate → query → generate → verify → fine-tune.

A round begins with the evaluation of the model that the one before it left: its mistakes steer what the teacher is
asked, and its accuracy on the questions held out decides whether there is a round at all. Each arrow is a task whose
file is the proof that it is done. What needs a GPU is a flow of its own, so that a deployment can run it on the GPU
pool and the rest elsewhere.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, State

from flows.gpu import run_on_gpu
from tasks import data_engine as steps
from tasks.data_engine_artifacts import gain_note, types_table
from tasks.data_engine_gate import ask_person, check_gate
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import BudgetExceededError
from vlfilter.methods.data_engine.evaluate import EvaluatePlaces
from vlfilter.methods.data_engine.params import DataEngineParams, EvaluateWork, GpuWork
from vlfilter.methods.data_engine.preflight import check_inputs
from vlfilter.methods.data_engine.rounds import (
    Limits,
    Stop,
    StopKind,
    after_evaluation,
    after_questions,
    before_queries,
    read_evaluation,
    read_scores,
    write_outcome,
)

STOPPED = "Stopped"  # the name of a round's final state, where no round follows


def _run_name() -> str:
    params = DataEngineParams.model_validate(runtime.flow_run.parameters["params"])
    return f"data-engine · {params.output}"


def _round_name() -> str:
    given = runtime.flow_run.parameters
    return f"round {given['number']} · {DataEngineParams.model_validate(given['params']).output}"


def _gpu_name() -> str:
    return f"data-engine-gpu · {GpuWork.model_validate(runtime.flow_run.parameters['params']).name}"


@flow(name="data-engine", flow_run_name=_run_name, persist_result=False)
def data_engine(params: DataEngineParams) -> State[Any]:
    """Find what a model cannot answer, have data written for that, train on it, and look again."""
    check_inputs(params)
    if params.gate:
        check_gate()
    said: list[str] = []
    if params.classify:
        try:
            said.append(steps.classify_questions(params, params.classify))
        except BudgetExceededError as error:
            return Completed(name=STOPPED, message=_out_of_budget(error).reason)
    if params.query.index is None:
        said.append(_on_gpu(params, GpuWork(name="index", index=params.query, output=params.index)))
    if params.model is None:
        said.append("base: " + _on_gpu(params, _base_training(params)))
    for number in count(1):
        ended = data_engine_round(params, number, return_state=True)
        said.append(f"round {number}: {_message(ended)}")
        if ended.name == STOPPED:
            gain_note(read_scores(params.places, number), said)
            break
    return Completed(message="\n".join(said))


@flow(name="data-engine-round", flow_run_name=_round_name, persist_result=False)
def data_engine_round(params: DataEngineParams, number: int) -> State[Any]:
    """One round. Its final state is called `Stopped` where it is the last: it may end before anything is asked."""
    places = params.places.round(number)
    said = [_on_gpu(params, _evaluation(params, number))]
    types_table(number, read_evaluation(EvaluatePlaces.of(places.folder).scores))
    scores = read_scores(params.places, number)
    counts: dict[str, Any] = {}
    stop = after_evaluation(scores, Limits(params.rounds, params.patience, params.min_gain))
    if stop is None:
        try:
            stop = _new_questions(params, number, said, counts)
        except BudgetExceededError as error:
            stop = _out_of_budget(error)
    if stop is None and params.gate:
        answer = ask_person(params.gate, places, number, params.seed_of(number))
        said.append(f"a person says {answer.decision}" + (f": {answer.note}" if answer.note else ""))
        if answer.decision == "stop":
            stop = Stop(StopKind.PERSON, f"to be asked again, remove {places.gate}")
    if stop is None:
        said.append("trained on " + steps.add_round(params, number))
        said.append(_on_gpu(params, _training(params, number)))
    write_outcome(places, number, scores, counts, stop)
    if stop is not None:
        return Completed(name=STOPPED, message="; ".join([*said, stop.reason]))
    return Completed(message="; ".join(said))


@flow(name="data-engine-gpu", flow_run_name=_gpu_name, persist_result=False)
def data_engine_gpu(params: GpuWork) -> State[Any]:
    """What of the data engine wants a GPU: the images' index, evaluation, training."""
    if params.index and params.output:
        return Completed(message=steps.make_index(params.index, params.output))
    if params.evaluate:
        return Completed(message=steps.evaluate_model(params.evaluate))
    if params.train:
        return Completed(message=steps.train(params.train, params.number))
    raise VlfilterError("nothing is to be done: give index, evaluate or train.")


def _new_questions(params: DataEngineParams, number: int, said: list[str], counts: dict[str, Any]) -> Stop | None:
    """Steps 2 to 4; why there is nothing to train on, if there is not. `said` and `counts` are added to."""
    places = params.places.round(number)
    settings = params.query.settings(params.seed_of(number))
    if stop := before_queries(places.bad_cases, places.weights, settings):
        return stop
    said.append(steps.make_queries(params, number))
    said.append(steps.generate_questions(params, number))
    made = steps.process_replies(params, number)
    said.append(f"{made['kept']} of {made['replies']} are questions")
    counts |= {name: made[name] for name in ("replies", "kept", "kept_by_type", "dropped")}
    kept = made["kept"]
    if params.verify and kept:
        found = steps.verify_questions(params, params.verify, number)
        counts["verified"] = {name: found[name] for name in ("kept", "kept_by_type", "dropped")}
        kept = found["kept"]
        said.append(f"{kept} of them pass")
    return after_questions(kept, made["replies"])


def _evaluation(params: DataEngineParams, number: int) -> GpuWork:
    work = EvaluateWork(
        model=params.model_before(number),
        questions=params.typed_questions,
        images=params.images,
        output=params.places.round(number).folder,
        seed=params.seed,  # the same split in all rounds
        step=params.evaluate,
    )
    return GpuWork(name=f"evaluate, round {number}", number=number, evaluate=work)


def _training(params: DataEngineParams, number: int) -> GpuWork:
    places = params.places.round(number)
    settings = params.training(places.train, places.mixture)
    return GpuWork(name=f"train, round {number}", number=number, train=settings)


def _base_training(params: DataEngineParams) -> GpuWork:
    return GpuWork(name="train, base", train=params.training(params.places.base, params.train.mixture))


def _on_gpu(params: DataEngineParams, work: GpuWork) -> str:
    """What was said of it. Raises `VlfilterError` where it did not end well."""
    return _message(run_on_gpu(data_engine_gpu, work, params.gpu_deployment), work.name)


def _message(state: State[Any], name: str = "") -> str:
    if state.is_completed():
        return state.message or ""
    error: Any = state.result(raise_on_failure=False) if state.is_failed() else None
    if isinstance(error, VlfilterError):
        raise error
    raise VlfilterError(": ".join(part for part in (name, state.message or "it did not end well") if part))


def _out_of_budget(error: BudgetExceededError) -> Stop:
    return Stop(StopKind.BUDGET, f"{error} With a higher max_usd, the same run goes on.")
