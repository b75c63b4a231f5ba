"""`vlfilter data-engine evaluate`: step 1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from vlfilter.cli.data_engine_judge import interruptible, listed, reasons


def evaluate(
    model: Annotated[str, typer.Option(help="The model to evaluate: a folder or hub name.", metavar="DIR")],
    questions: Annotated[
        str, typer.Option(help="Typed questions: aokvqa_val_classified.json, from `classify`.", metavar="FILE")
    ],
    images: Annotated[str, typer.Option(help="The folder of the questions' images, such as val2017.", metavar="DIR")],
    output: Annotated[str, typer.Option(help="Where the files of the round go.", metavar="DIR")],
    template: Annotated[
        str, typer.Option(help="auto: as the model was trained; data_engine: as published; or a template's name.")
    ] = "auto",
    image_mode: Annotated[str, typer.Option(help="auto, processor, pad or squash.")] = "auto",
    model_base: Annotated[
        str, typer.Option(help="The language model of a projector-only checkpoint.", metavar="DIR")
    ] = "",
    split: Annotated[
        Literal["holdout", "original"],
        typer.Option(help="original: all questions steer and report, which leaks, as published."),
    ] = "holdout",
    holdout: Annotated[float, typer.Option(help="Share of the images whose questions only report.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    direct: Annotated[bool, typer.Option("--direct", help="Let the model answer freely too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_tokens: Annotated[int, typer.Option(help="Tokens in a batch, padding and images included.")] = 8192,
    shard: Annotated[int, typer.Option(help="Questions in one table; a killed run goes on behind the last.")] = 512,
    workers: Annotated[int, typer.Option(help="Threads that read and decode beside the model.")] = 2,
) -> None:
    """Let a model answer typed questions; write its bad cases and the weight of each type for the next round."""
    from vlfilter.evaluation.model import ModelSettings
    from vlfilter.evaluation.run import RunSettings
    from vlfilter.methods.data_engine import evaluate as step
    from vlfilter.methods.data_engine.bad_cases import SplitSettings

    settings = step.EvaluateSettings(
        ModelSettings(model, template, image_mode, model_base, device, dtype),
        RunSettings(images, shard, batch_tokens, workers),
        SplitSettings(split, holdout, seed),
        direct,
    )
    told = interruptible(lambda: step.evaluate(questions, output, settings))
    _show(told)
    places = step.EvaluatePlaces.of(output)
    typer.echo(f"wrote {places.rows}, {places.bad_cases}, {places.weights}, {places.scores} and {places.table}")


def _show(told: dict[str, Any]) -> None:
    from rich.table import Column, Table

    from vlfilter.cli.scoring import console

    names = ("all", "failed", "steer", "wrong", "weight", "√", "report", "right")
    table = Table(Column("type", overflow="fold"), *names, box=None)
    for entry in told["types"]:
        weights = ["–" if entry[name] is None else f"{entry[name]:.3f}" for name in ("weight", "weight_v2")]
        accuracy = "–" if entry["accuracy"] is None else f"{entry['accuracy']:.1f} %"
        counts = [str(entry[name]) for name in ("questions", "unanswered", "steering", "wrong")]
        table.add_row(entry["type"] or "(none)", *counts, *weights, str(entry["reporting"]), accuracy)
    console.print(table)
    typer.echo(f"questions: {_most_first(told['rows'])}; {_most_first(told['parts'])}")
    typer.echo(f"accuracy of those that report: {_percent(told['accuracy'])}")
    typer.echo(f"as published: MC {_percent(told['published']['MC'])}, DA {_percent(told['published']['DA'])}")
    if told["direct_answer"] is not None:
        typer.echo(f"free answers: {_percent(told['direct_answer'])}")
    if told["untyped"]:
        typer.echo(f"warning: {told['untyped']} questions have no type: they have no weight.", err=True)
    for kind, count in told["undefined_types"].items():
        typer.echo(f"warning: no definition of {kind} ({count} questions): prompts will explain nothing.", err=True)
    reasons(told)


def _most_first(counts: dict[str, int]) -> str:
    return listed(dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"
