"""The steps of the data engine's flow: each looks at its own files first, and does what those do not show as done."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task

from tasks.data_engine_artifacts import counts_table, queries_table, training_loss, verdicts_table
from tasks.judge import paid_judge
from tasks.policy import ONCE, RETRIED
from vlfilter.methods.data_engine import classify, evaluate, generate, postprocess, query, verify
from vlfilter.methods.data_engine.params import DataEngineParams, EvaluateWork
from vlfilter.methods.data_engine.preflight import round_name
from vlfilter.methods.data_engine.steps import ClassifyStep, QueryStep, VerifyStep
from vlfilter.training.mixture import with_round

if TYPE_CHECKING:
    from vlfilter.training.settings import TrainSettings

COST = "data-engine-cost"  # one account for all steps


@task(name="classify", **RETRIED)
def classify_questions(params: DataEngineParams, step: ClassifyStep) -> str:
    settings = classify.ClassifySettings(
        step.name_of(step.model), "", classify.group_sizes(step.group), step.sampling()
    )
    with paid_judge(params.judge(step, step.model), COST) as judge:
        told = classify.classify(params.questions, params.places.questions, judge, settings)
    _warn(told["reasons"])
    counts_table("classify", 0, told["rows"])
    counts_table("types", 0, told["types"])
    return f"classified: {_listed(told['rows'])}"


@task(name="index", **RETRIED)
def make_index(step: QueryStep, output: str) -> str:
    from vlfilter.retrieval.embed import EmbedSettings
    from vlfilter.retrieval.sources import image_set
    from vlfilter.retrieval.store import build_index

    settings = EmbedSettings(step.clip_model, device=step.device, batch=step.batch, workers=step.workers)
    told = build_index(image_set([step.images], step.annotations), output, settings, get_run_logger().info)
    for status, reason in told.reasons.items():
        get_run_logger().warning("%s, such as %s", status, reason)
    counts_table("index", 0, told.images)
    return f"index: {_listed(told.images)}"


@task(name="evaluate", task_run_name="evaluate {work.model}", **RETRIED)
def evaluate_model(work: EvaluateWork) -> str:
    told = evaluate.evaluate(work.questions, work.output, work.step.settings(work.model, work.images, work.seed))
    _warn(told["reasons"])
    if told["untyped"]:
        get_run_logger().warning("%d questions have no type: they steer nothing", told["untyped"])
    return f"{told['accuracy']} % right of the questions held out ({_listed(told['rows'])})"


@task(name="query", **RETRIED)
def make_queries(params: DataEngineParams, number: int) -> str:
    step, places = params.query, params.places.round(number)
    earlier = [params.places.round(before).prompts for before in range(1, number)] if step.fresh_images else []
    inputs = query.QueryInputs(
        places.bad_cases,
        params.index,
        places.weights,
        step.captions,
        step.instances,
        step.regions,
        step.image_data,
        step.ocr,
        params.images,
        tuple(earlier),
    )
    told = query.build_queries(inputs, places.prompts, step.settings(params.seed_of(number)), get_run_logger().info)
    queries_table(number, told["types"])
    counts_table("images", number, told["images"])
    ended = f" ({told['ended']})" if told["ended"] else ""
    return f"{told['queries']} of {told['wanted']} queries{ended}"


@task(name="generate", **RETRIED)
def generate_questions(params: DataEngineParams, number: int) -> str:
    step, places = params.generate, params.places.round(number)
    labels = {"step": "generate", "round": str(number)}
    settings = generate.GenerateSettings(step.name_of(step.model), step.sampling(), labels)
    with paid_judge(params.judge(step, step.model), COST) as judge:
        told = generate.generate(places.prompts, places.replies, judge, settings)
    _warn(told["reasons"])
    counts_table("generate", number, told["rows"])
    return f"replies: {_listed(told['rows'])}"


@task(name="postprocess", **RETRIED)
def process_replies(params: DataEngineParams, number: int) -> dict[str, Any]:
    places = params.places.round(number)
    output = places.generated if params.verify else places.data
    told = postprocess.postprocess(places.replies, output, postprocess.PostprocessSettings(params.postprocess.mode))
    counts_table("postprocess", number, {"kept": told["kept"], **told["dropped"]})
    return told


@task(name="verify", **RETRIED)
def verify_questions(params: DataEngineParams, step: VerifyStep, number: int) -> dict[str, Any]:
    places = params.places.round(number)
    earlier = tuple(params.places.round(before).data for before in range(1, number))
    labels = {"round": str(number)}
    settings = step.settings(
        params.query.images, params.typed_questions, params.images, earlier, params.seed_of(number), labels
    )
    with ExitStack() as stack:
        judges = [
            stack.enter_context(paid_judge(params.judge(step, model), COST)) if model else None
            for model in (step.image_judge, step.text_judge)
        ]
        told = verify.verify(places.generated, places.data, places.verdicts, settings, *judges)
    verdicts_table(number, told)
    if told["open"]:
        get_run_logger().warning("%d questions got no answer from a judge: run it again to ask again", told["open"])
    return told


@task(name="mixture", **RETRIED)
def add_round(params: DataEngineParams, number: int) -> str:
    """The mixture of the round before, and one more entry."""
    places, step = params.places.round(number), params.train
    ratio = {} if step.sample_ratio is None else {"sample_ratio": step.sample_ratio}
    before, name = params.mixture_before(number), round_name(number)
    mixture = with_round(before, name, places.data, params.query.images, places.mixture, format=step.format, **ratio)
    return ", ".join(entry.name for entry in mixture.datasets)


@task(name="train", task_run_name="train round {number}", **ONCE)
def train(settings: TrainSettings, number: int) -> str:
    from vlfilter.training.launch import finetune

    try:
        result = finetune(settings)
    finally:
        training_loss(settings.output, number)
    how = "trained" if result.fresh else "was trained already"
    how += f", going on from step {result.resumed_from}," if result.resumed_from else ""
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    return f"{result.model} {how} in {result.steps} steps on {result.rows - result.skipped} rows{skipped}"


def _warn(reasons: list[dict[str, Any]]) -> None:
    for entry in reasons:
        get_run_logger().warning("%d rows: %s", entry["rows"], entry["reason"] or "no reason told")


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
