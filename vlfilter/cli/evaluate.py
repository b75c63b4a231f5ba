"""`vlfilter evaluate …`: benchmarks for a model of this house, a server's, or answers that exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vlfilter.evaluation.benchmarks import TITLES

if TYPE_CHECKING:
    from vlfilter.cli.mlm_filter_run import Flow

app = typer.Typer(no_args_is_help=True, help="Evaluate a model, or answers that exist, on published benchmarks.")

Data = Annotated[str, typer.Option(help="The published questions: a file or its folder.", metavar="PATH")]
Output = Annotated[str, typer.Option(help="Where the results go, below the benchmark's name.", metavar="DIR")]
Model = Annotated[str, typer.Option(help="Folder or hub name, or openai:NAME: a server.", metavar="NAME")]
Given = Annotated[str, typer.Option(help="In place of --model: a file of answers, to be scored.", metavar="FILE")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="What --answers leaves out counts as wrong.")]
Images = Annotated[str, typer.Option(help="The folder of the images (MMBench has its own).", metavar="DIR")]
Truths = Annotated[str, typer.Option(help="The right answers, where they are not beside --data.", metavar="FILE")]
Mode = Annotated[Literal["fixed", "compat"], typer.Option(help="compat: as published, with its defects.")]
Plain = Annotated[bool, typer.Option("--plain-prompts", help="Without MiniGPT-v2's word (vqa) before the question.")]
Name = Annotated[str, typer.Option(help="The model's name in files; else the end of --model.", metavar="NAME")]
Likelihood = Annotated[
    bool, typer.Option("--likelihood", help="Multiple choice: take the letter that the model finds likeliest.")
]
MaxTokens = Annotated[int, typer.Option(help="Longest answer; 20 as published.")]
Template = Annotated[str, typer.Option(help="auto: as trained; minigpt_v2_published: as published; or a name.")]
ImageMode = Annotated[Literal["auto", "processor", "pad", "squash"], typer.Option(help="How images are fitted.")]
Base = Annotated[str, typer.Option(help="The language model of a projector-only checkpoint.", metavar="DIR")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
Dtype = Annotated[Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Of the model.")]
BatchTokens = Annotated[int, typer.Option(help="Tokens in a batch, padding and images included.")]
Shard = Annotated[int, typer.Option(help="Questions in one table; a killed run goes on behind the last.")]
Workers = Annotated[int, typer.Option(help="Threads that read and decode.")]
BaseUrl = Annotated[str | None, typer.Option(help="The server: http://HOST:8000/v1.", metavar="URL")]
MaxUsd = Annotated[float | None, typer.Option(help="Hard limit on what the server's answers may cost.")]
Concurrency = Annotated[int, typer.Option(help="Requests under way at a time.")]
Usd = Annotated[float | None, typer.Option(help="For a model of unknown price.")]


def _command(name: str) -> Callable[..., None]:
    def command(
        data: Data,
        output: Output,
        model: Model = "",
        answers: Given = "",
        allow_missing: AllowMissing = False,
        images: Images = "",
        annotations: Truths = "",
        mode: Mode = "fixed",
        plain_prompts: Plain = False,
        model_id: Name = "",
        likelihood: Likelihood = False,
        max_tokens: MaxTokens = 20,
        template: Template = "auto",
        image_mode: ImageMode = "auto",
        model_base: Base = "",
        device: Device = "auto",
        dtype: Dtype = "auto",
        batch_tokens: BatchTokens = 8192,
        shard: Shard = 512,
        workers: Workers = 2,
        base_url: BaseUrl = None,
        max_usd: MaxUsd = None,
        concurrency: Concurrency = 16,
        input_usd_per_million: Usd = None,
        output_usd_per_million: Usd = None,
    ) -> None:
        server = {"base_url": base_url, "max_usd": max_usd, "concurrency": concurrency}
        prices = {"input_usd_per_million": input_usd_per_million, "output_usd_per_million": output_usd_per_million}
        step = {"benchmark": name, "data": data, "annotations": annotations, "images": images, "answers": answers}
        _evaluate(
            {
                "output": output,
                "benchmarks": [step | {"allow_missing": allow_missing}],
                "model": model,
                "model_id": model_id,
                "mode": mode,
                "plain_prompts": plain_prompts,
                "answer_by": "likelihood" if likelihood else "writing",
                "max_tokens": max_tokens,
                "base": model_base,
                "template": template,
                "image_mode": image_mode,
                "device": device,
                "dtype": dtype,
                "batch_tokens": batch_tokens,
                "shard": shard,
                "workers": workers,
                "server": server | prices,
            }
        )

    return command


for _name, _title in TITLES.items():
    app.command(_name, help=f"Answer or score {_title}.")(_command(_name))


@app.command()
def run(
    config: Annotated[str, typer.Option(help="A YAML file: output, model, benchmarks, …", metavar="FILE")],
) -> None:
    """Run the benchmarks that a YAML file describes, as a flow; what was answered already is not asked again."""
    from vlfilter.cli.mlm_filter_run import read_config, run_flow
    from vlfilter.data.storage import check_writable
    from vlfilter.evaluation.benchmarking import check_benchmarks
    from vlfilter.evaluation.params import parse_params

    params = parse_params(read_config(config), config)
    check_benchmarks(params)
    check_writable(params.output)

    def load() -> Flow:
        from flows.evaluate import evaluate

        return evaluate

    run_flow(load, params, scoring=False)


def _evaluate(fields: dict[str, Any]) -> None:
    from vlfilter.cli.data_engine_judge import interruptible
    from vlfilter.cli.evaluate_show import show
    from vlfilter.evaluation.benchmarking import evaluate_benchmarks
    from vlfilter.evaluation.params import parse_params

    params = parse_params(fields, "the options")
    told = interruptible(lambda: evaluate_benchmarks(params)[0])
    show(told, params.folder(params.benchmarks[0]))
