"""Self-Filter (arXiv 2402.12501): preprocess → features → stage 1 → stage 2 (difficulty, selection) → tuning.

The three scores come in where the features are of that kind: CLIP score and ImageReward on the GPU pool, the judge's
from an API. Each arrow is a task whose file is the proof that it is done; features are a file and a task a shard. What
needs a GPU is a flow of its own, so that a deployment can run it on the GPU pool and the rest elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import Task, flow, runtime
from prefect.futures import wait
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.gpu import run_on_gpu
from tasks import self_filter as steps
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.clip_features import check_images, clip_jobs, mark_unfinished
from vlfilter.methods.self_filter.params import STEPS, SelfFilterParams
from vlfilter.methods.self_filter.preflight import check_inputs
from vlfilter.methods.self_filter.rewards import reward_jobs


def _run_name() -> str:
    params = SelfFilterParams.model_validate(runtime.flow_run.parameters["params"])
    return f"self-filter {' → '.join(name for name in STEPS if getattr(params, name))} · {params.output}"


@flow(name="self-filter", flow_run_name=_run_name, persist_result=False)
def self_filter(params: SelfFilterParams) -> State[Any]:
    """Let a vision-language model choose the instructions that it is tuned on."""
    check_inputs(params)
    places, scores = params.places, params.feature_kind == "scores"
    said: list[str] = []

    def on_gpu(step: str) -> State[Any] | None:
        """The step's failure, or None."""
        if not (part := params.only(step)):
            return None
        state = run_on_gpu(self_filter_gpu, part, params.gpu_deployment)
        if state.is_completed():
            said.append(state.message or "")
            return None
        return Failed(message=f"{step}: {state.message}")

    if params.preprocess:
        said.append(steps.number_rows(params.preprocess, places))
    if failed := on_gpu("features"):
        return failed
    if params.judge:
        said.append(steps.ask_judge(params.judge, params.output, places))
    if params.features and scores:
        said.append(steps.join_scores(params.score_inputs, params.features.normalise, places))
    if failed := on_gpu("stage1"):
        return failed
    if params.select:
        said.append(steps.measure(params.weighed_by, params.select.model or places.model, places))
        said.append(steps.choose(params.select, places))
    if failed := on_gpu("tune"):
        return failed
    return Completed(message="\n".join(said))


@flow(
    name="self-filter-gpu",
    flow_run_name=_run_name,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type] # one model on one GPU: shard after shard
)
def self_filter_gpu(params: SelfFilterParams) -> State[Any]:
    """The steps of Self-Filter that want a GPU: features, stage 1, tuning."""
    places, images = params.places, params.image_folder
    said: list[str] = []
    if step := params.features:
        clip = step.clip()
        jobs = clip_jobs(places.preprocess, images, places.clip, clip)
        check_images(jobs, images)
        mark_unfinished(jobs, places.clip)
        _each(steps.clip_shard, jobs, images, clip)
        said.append(steps.clip_summary(places, images, clip))
        if step.kind == "scores":
            reward = step.reward()
            _each(
                steps.reward_shard, reward_jobs(places.preprocess, images, places.image_reward, reward), images, reward
            )
            said.append(steps.reward_summary(places, images, reward))
    if settings := params.co_training():
        said.append(steps.train(settings, "stage 1"))
    if settings := params.tuning():
        said.append(steps.train(settings, "tune"))
    return Completed(message="\n".join(said))


def _each(task: Task[..., Any], jobs: Sequence[Any], *others: Any) -> None:
    """A task run a job. Those that fail do not stop the others. Raises `VlfilterError` naming them."""
    futures = [task.submit(job, *others) for job in jobs]
    wait(futures)
    ended = [(job.shard.name, future.state) for job, future in zip(jobs, futures, strict=True)]
    failed = [(name, state.message) for name, state in ended if not state.is_completed()]
    if failed:
        name, message = failed[0]
        raise VlfilterError(
            f"{task.name}: {len(failed)} of {len(jobs)} shards failed, the first is {name}: {message}. Run it again: "
            "finished shards are kept."
        )
