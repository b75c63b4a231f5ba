"""`vlfilter self-filter run | stage1 | tune`: Self-Filter's flow in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vlfilter.cli.mlm_filter_run import Flow

Gpus = Annotated[int | None, typer.Option(help="Processes, one a GPU; else all there are.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", help="A training setting, over the preset's.", metavar="NAME=VALUE")
]
Output = Annotated[str, typer.Option(help="For checkpoints, loss curve and what was trained.", metavar="DIR")]
ImageFolder = Annotated[str, typer.Option(help="The folder that the rows' image paths start from.", metavar="DIR")]


def stage1(
    data: Annotated[str, typer.Option(help="The list that `preprocess` wrote (annotations.json).", metavar="FILE")],
    features: Annotated[str, typer.Option(help="What `features` wrote, or features.npz.", metavar="PLACE")],
    images: ImageFolder,
    output: Output,
    preset: Annotated[str | None, typer.Option(help="self_filter_llava_7b, as published.", metavar="NAME")] = None,
    gpus: Gpus = None,
    setting: Setting = None,
) -> None:
    """Stage 1: train the model together with the score net; a run that was stopped goes on."""
    own = {"data": data, "features": features, "images": images, "output": output, "objective": "self_filter"}
    _train(own, preset, gpus, setting)


def tune(
    data: Annotated[str, typer.Option(help="The list that `select` wrote (selected.json).", metavar="FILE")],
    images: ImageFolder,
    output: Output,
    preset: Annotated[
        str | None, typer.Option(help="llava_7b_instruct (as published) or llava_1.5_7b_instruct.", metavar="NAME")
    ] = None,
    gpus: Gpus = None,
    setting: Setting = None,
) -> None:
    """Tune a model on the chosen instructions; a run that was stopped goes on."""
    _train({"data": data, "images": images, "output": output}, preset, gpus, setting)


def run(
    config: Annotated[str, typer.Option(help="A YAML file: output, images, preprocess, features, …", metavar="FILE")],
) -> None:
    """Run the steps that a YAML file describes; what is done already is not done again."""
    from vlfilter.cli.mlm_filter_run import read_config, run_flow
    from vlfilter.data.storage import check_writable
    from vlfilter.methods.self_filter.params import parse_params
    from vlfilter.methods.self_filter.preflight import check_inputs

    params = parse_params(read_config(config), config)
    check_inputs(params)
    check_writable(params.output)

    def load() -> Flow:
        from flows.self_filter import self_filter

        return self_filter

    run_flow(load, params, scoring=False)


def _train(own: dict[str, Any], preset: str | None, gpus: int | None, setting: list[str] | None) -> None:
    from vlfilter.cli.mlm_filter_run import log_lines, read_settings, say
    from vlfilter.training.launch import finetune
    from vlfilter.training.settings import train_settings

    processes = {} if gpus is None else {"processes": gpus}
    settings = train_settings(own | processes | read_settings(setting or []), preset)
    with log_lines():
        result = finetune(settings)
    how = "trained" if result.fresh else "was trained already"
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    say(f"{result.model} {how} in {result.steps} steps on {result.rows - result.skipped} rows{skipped}")
