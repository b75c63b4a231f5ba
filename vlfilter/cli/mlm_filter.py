"""`vlfilter mlm-filter …`: make MLM-Filter's instruction data, fine-tune on it, or run the whole from a file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Make a filter of your own, as MLM-Filter was made.")

Usd = Annotated[float | None, typer.Option(help="For a model of unknown price.")]


@app.command()
def instructions(
    images: Annotated[list[str], typer.Option(help="Image-text shards: path, glob, braces, folder …", metavar="SPEC")],
    teacher: Annotated[str, typer.Option(help="openai:MODEL or anthropic:MODEL.", metavar="VENDOR:MODEL")],
    output: Annotated[str, typer.Option(help="The json to write.", metavar="FILE")],
    max_usd: Annotated[float | None, typer.Option(help="Hard limit on what the teacher may cost.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Choose the pairs, tell the price, ask nothing.")] = False,
    work: Annotated[
        str | None, typer.Option(help="Folder for images, grades and answers; else FILE's name without .json.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs to grade.")] = 10_000,
    clusters: Annotated[int, typer.Option(help="Clusters of captions to spread them over.")] = 100,
    embedding_model: Annotated[
        str | None, typer.Option(help="A CLIP that embeds captions; else by words.", metavar="MODEL")
    ] = None,
    metric: Annotated[str, typer.Option(help="all, or metrics joined by commas.")] = "all",
    prompt_version: Annotated[int, typer.Option(help="1: for the 13B; 2: for Qwen2.5-1.5B.")] = 2,
    teacher_view: Annotated[str, typer.Option(help="image, or caption (with --descriptions).")] = "image",
    descriptions: Annotated[
        str | None, typer.Option(help="JSON object from id or key to a description.", metavar="FILE")
    ] = None,
    per_metric: Annotated[int, typer.Option(help="Balanced rows of each metric.")] = 1000,
    mix: Annotated[str | None, typer.Option(help="A LLaVA json to mix in.", metavar="FILE")] = None,
    mix_rows: Annotated[int, typer.Option(help="Rows of it.")] = 46_000,
    mix_images: Annotated[str | None, typer.Option(help="The folder of its images.", metavar="DIR")] = None,
    base_url: Annotated[str | None, typer.Option(help="A server that speaks the vendor's API.", metavar="URL")] = None,
    cache: Annotated[str | None, typer.Option(help="Where answers are kept; else in --work.", metavar="URL")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="The vendor's batch endpoint: half price, in a day.")] = False,
    concurrency: Annotated[int, typer.Option(help="Requests under way at a time.")] = 16,
    requests_per_minute: Annotated[int | None, typer.Option(help="Limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Limit.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 1024,
    input_usd_per_million: Usd = None,
    output_usd_per_million: Usd = None,
    seed: Annotated[int, typer.Option(help="Of the choice, the balance and the mix.")] = 0,
    device: Annotated[str, typer.Option(help="For --embedding-model.")] = "auto",
) -> None:
    """Choose pairs, let a teacher grade them, balance the grades, and write LLaVA's json; what is done is kept."""
    from vlfilter.cli.mlm_filter_run import estimate, run_steps

    place = work or (output.removesuffix(".json") if output.endswith(".json") else f"{output}.work")
    fields: dict[str, Any] = {
        "output": place,
        "sample": {
            "shards": images,
            "pairs": pairs,
            "clusters": clusters,
            "embedding_model": embedding_model,
            "device": device,
            "seed": seed,
        },
        "grade": {
            "teacher": teacher,
            "base_url": base_url,
            "metric": metric,
            "prompt_version": prompt_version,
            "view": teacher_view,
            "descriptions": descriptions,
            "max_usd": max_usd,
            "cache": cache,
            "batch": batch,
            "concurrency": concurrency,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "max_tokens": max_tokens,
            "input_usd_per_million": input_usd_per_million,
            "output_usd_per_million": output_usd_per_million,
        },
        "balance": {"per_metric": per_metric, "seed": seed},
        "mix": {"data": mix, "rows": mix_rows, "images": mix_images, "seed": seed, "output": output},
    }
    if dry_run:
        estimate(fields, "instructions")
    else:
        run_steps(fields, "instructions")


@app.command()
def finetune(
    data: Annotated[str, typer.Option(help="Instructions in LLaVA's format.", metavar="FILE")],
    images: Annotated[str, typer.Option(help="The folder that their image paths start from.", metavar="DIR")],
    output: Annotated[str, typer.Option(help="For checkpoints, loss curve and the model.", metavar="DIR")],
    preset: Annotated[
        str | None, typer.Option(help="mlm_filter_13b, mlm_filter_qwen2.5_1.5b, …_projector.", metavar="NAME")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Processes, one a GPU; else all there are.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A training setting, over the preset's.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Check the images, then fine-tune with torchrun and DeepSpeed; a run that was stopped goes on."""
    from vlfilter.cli.mlm_filter_run import read_settings, run_steps

    step = {
        "preset": preset,
        "gpus": gpus,
        "data": data,
        "images": images,
        "output": output,
        "settings": read_settings(setting or []),
    }
    run_steps({"output": output, "finetune": step}, "finetune")


@app.command()
def run(
    config: Annotated[str, typer.Option(help="A YAML file: output, sample, grade, …", metavar="FILE")],
) -> None:
    """Run the steps that a YAML file describes; what is done already is not done again."""
    from vlfilter.cli.mlm_filter_run import read_config, run_steps

    run_steps(read_config(config), config)
