"""`vlfilter minigpt-v2 …`: fine-tune MiniGPT-v2 on a mixture of data sets, or run the whole from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vlfilter.cli.mlm_filter_run import Flow

app = typer.Typer(no_args_is_help=True, help="Fine-tune MiniGPT-v2 on a mixture with the engine's data.")


@app.command()
def finetune(
    output: Annotated[str, typer.Option(help="For checkpoints, loss curve and the model.", metavar="DIR")],
    mixture: Annotated[
        str, typer.Option(help="A published mixture, or a YAML file.", metavar="NAME")
    ] = "minigpt_v2_dataengine",
    data: Annotated[
        str | None, typer.Option(help="The folder that its relative paths start from; else the file's.", metavar="DIR")
    ] = None,
    preset: Annotated[str, typer.Option(help="A recipe: minigpt_v2_dataengine, minigpt_v2_tiny.", metavar="NAME")] = (
        "minigpt_v2_dataengine"
    ),
    gpus: Annotated[int | None, typer.Option(help="Processes, one a GPU; else all there are.")] = None,
    samples: Annotated[int, typer.Option(help="Rows of each data set to read with their image first.", min=0)] = 3,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A training setting, over the preset's.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Check the data sets, then fine-tune with torchrun; a run that was stopped goes on."""
    from vlfilter.cli.mlm_filter_run import read_settings

    train = {"preset": preset, "gpus": gpus, "settings": read_settings(setting or [])}
    fields = {"output": output, "mixture": mixture, "data": data, "check": {"samples": samples}, "train": train}
    _run(fields, "finetune")


@app.command()
def run(
    config: Annotated[str, typer.Option(help="A YAML file: output, mixture, train, evaluate …", metavar="FILE")],
) -> None:
    """Run the steps that a YAML file describes; what is done already is not done again."""
    from vlfilter.cli.mlm_filter_run import read_config

    _run(read_config(config), config)


def _run(fields: Any, origin: str) -> None:
    from vlfilter.cli.mlm_filter_run import run_flow
    from vlfilter.data.storage import check_writable
    from vlfilter.methods.minigpt_v2.params import parse_params
    from vlfilter.methods.minigpt_v2.preflight import check_inputs

    params = parse_params(fields, origin)
    check_inputs(params)
    check_writable(params.output)

    def load() -> Flow:
        from flows.minigpt_v2 import minigpt_v2

        return minigpt_v2

    run_flow(load, params, scoring=False)
