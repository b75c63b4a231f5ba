"""What the data engine is measured against: as many questions by the same teacher, spread evenly over all types.

Steps, start, base mixture and training are the engine's own. Only the types do not follow the model's mistakes, and any
question that steers may be an example.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vlfilter.data.aokvqa import VqaRow, by_type, read_rows, write_rows, write_rows_by_type
from vlfilter.data.storage import join
from vlfilter.llm.client import Judge
from vlfilter.methods.data_engine import evaluate, generate, postprocess, query, verify
from vlfilter.methods.data_engine.evaluate import EvaluatePlaces
from vlfilter.methods.data_engine.params import DataEngineParams
from vlfilter.methods.data_engine.places import DataEnginePlaces, RoundPlaces
from vlfilter.methods.data_engine.preflight import round_name
from vlfilter.training.launch import finetune
from vlfilter.training.mixture import with_round

SPARE = 3  # queries for each question wanted: types are drawn, and some replies are dropped


def even_rounds(params: DataEngineParams, output: Path) -> None:
    """After the engine's run the same number of rounds below `output`, each with as many questions as the engine's."""
    places, mixture = DataEnginePlaces.below(str(output)), params.train.mixture
    examples = join(places.output, "examples.json")
    earlier: tuple[str, ...] = ()
    rows, _ = read_rows(EvaluatePlaces.of(params.places.round(1).folder).rows)
    write_rows_by_type(examples, by_type([row for row in rows if row.extra["part"] == "steer"]))
    for number in range(1, params.rounds + 1):
        here, wanted = places.round(number), len(json.loads(Path(params.places.round(number).data).read_text()))
        rows = _questions(params, here, number, examples, earlier, int(SPARE * wanted))
        write_rows(here.data, spread(rows, wanted))
        name, form = round_name(number), params.train.format
        with_round(mixture, name, here.data, params.query.images, here.mixture, format=form)
        model = str(finetune(params.training(here.train, here.mixture)).model)
        settings = params.evaluate.settings(model, params.images, params.seed)
        evaluate.evaluate(params.typed_questions, places.round(number + 1).folder, settings)
        mixture, earlier = here.mixture, (*earlier, here.prompts)


def spread(rows: Sequence[VqaRow], wanted: int) -> list[VqaRow]:
    """`wanted` rows, of each type as many as of any other or one more: the first of each."""
    groups = by_type(rows)
    share, left = divmod(wanted, len(groups))
    chosen = [row for place, group in enumerate(groups.values()) for row in group[: share + (place < left)]]
    if len(chosen) < wanted:
        raise SystemExit(f"{len(rows)} questions are too few for {wanted} spread evenly: raise SPARE")
    return chosen


def _questions(
    params: DataEngineParams, here: RoundPlaces, number: int, examples: str, earlier: Sequence[str], queries: int
) -> list[VqaRow]:
    """Steps 2 to 4, as the flow's tasks take them."""
    step, seed = params.query, params.seed_of(number)
    inputs = query.QueryInputs(
        examples, params.index, None, step.captions, step.instances, bad_case_images=params.images,
        exclude=tuple(earlier),
    )  # fmt: skip
    wider = step.model_copy(update={"maxnum": queries})
    query.build_queries(inputs, here.prompts, wider.settings(seed))
    teacher = params.generate
    with Judge(params.judge(teacher, teacher.model)) as judge:
        settings = generate.GenerateSettings(teacher.name_of(teacher.model), teacher.sampling())
        generate.generate(here.prompts, here.replies, judge, settings)
    postprocess.postprocess(here.replies, here.generated, postprocess.PostprocessSettings(params.postprocess.mode))
    checks = params.verify
    assert checks is not None
    with ExitStack() as stack:
        judges = [
            stack.enter_context(Judge(params.judge(checks, model))) if model else None
            for model in (checks.image_judge, checks.text_judge)
        ]
        rules = checks.settings(params.query.images, params.typed_questions, params.images, (), seed, {})
        verify.verify(here.generated, join(here.folder, "kept.json"), here.verdicts, rules, *judges)
    return read_rows(join(here.folder, "kept.json"))[0]
