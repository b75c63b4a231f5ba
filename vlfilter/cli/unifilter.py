"""`vlfilter unifilter …`: make training data for a quality classifier with a teacher, and train it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make a quality classifier of your own, as UniFilter was made.")

Usd = Annotated[float | None, typer.Option(help="For a model of unknown price.")]
Preset = Annotated[
    str | None,
    typer.Option(help="unifilter_qwen2.5_1.5b, …_0.5b or unifilter_qwen3_0.6b.", metavar="NAME"),
]
Gpus = Annotated[int | None, typer.Option(help="Processes, one a GPU; else all there are.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", help="A training setting, over the preset's.", metavar="NAME=VALUE")
]
Output = Annotated[str, typer.Option(help="For checkpoints, loss curve and what was trained.", metavar="DIR")]
ImageFolder = Annotated[str, typer.Option(help="The folder that their image paths start from.", metavar="DIR")]
Specs = Annotated[
    list[str] | None,
    typer.Option(help="For captions: shards, or a folder of images. Repeat it for more.", metavar="SPEC"),
]


@app.callback()
def _unifilter() -> None:
    """Make a quality classifier of your own, as UniFilter was made."""


@app.command()
def synthesize(
    output: Annotated[str, typer.Option(help="Folder for images, answers, rows and what was rejected.", metavar="DIR")],
    images: Specs = None,
    documents_from: Annotated[
        list[str] | None,
        typer.Option(help="For documents: shards of documents or pairs, or a folder of images.", metavar="SPEC"),
    ] = None,
    captions: Annotated[int, typer.Option(help="Images that get four captions each.")] = 10_000,
    documents: Annotated[int, typer.Option(help="Sets of images that get four documents each.")] = 10_000,
    set_size: Annotated[int, typer.Option(help="Images in a set that is made of single ones.")] = 3,
    validation: Annotated[float, typer.Option(help="Share of the images that is kept for validation.")] = 0.05,
    teacher: Annotated[
        str | None, typer.Option(help="anthropic:MODEL or openai:MODEL; else Claude Sonnet.", metavar="VENDOR:MODEL")
    ] = None,
    max_usd: Annotated[float | None, typer.Option(help="Hard limit on what the teacher may cost.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Choose the images, tell the price, ask nothing.")] = False,
    base_url: Annotated[str | None, typer.Option(help="A server that speaks the vendor's API.", metavar="URL")] = None,
    cache: Annotated[str | None, typer.Option(help="Where answers are kept; else in --output.", metavar="URL")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="The vendor's batch endpoint: half price, in a day.")] = False,
    concurrency: Annotated[int, typer.Option(help="Requests under way at a time.")] = 16,
    requests_per_minute: Annotated[int | None, typer.Option(help="Limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Limit.")] = None,
    caption_tokens: Annotated[int, typer.Option(help="Longest answer about one image.")] = 2048,
    document_tokens: Annotated[int, typer.Option(help="Longest answer about a set.")] = 8192,
    temperature: Annotated[float | None, typer.Option(help="Else the vendor's own.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for one attempt.")] = 300.0,
    input_usd_per_million: Usd = None,
    output_usd_per_million: Usd = None,
    duplicate: Annotated[float, typer.Option(help="Jaccard similarity from which on texts are duplicates.")] = 0.8,
    hard_overlap: Annotated[float, typer.Option(help="Words that captions of levels 2 and 3 share at least.")] = 0.5,
    keep_incomplete: Annotated[
        bool, typer.Option("--keep-incomplete", help="Keep the other texts of an image that lost one.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the choice, the split, the lengths and the balance.")] = 0,
) -> None:
    """Let a teacher write captions and documents at four quality levels; what is done already is kept."""
    from vlfilter.cli.unifilter_synthesize import run_synthesize

    fields = {
        "images": images,
        "documents_from": documents_from,
        "captions": captions,
        "documents": documents,
        "set_size": set_size,
        "validation": validation,
        "base_url": base_url,
        "max_usd": max_usd,
        "cache": cache,
        "batch": batch,
        "concurrency": concurrency,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "caption_tokens": caption_tokens,
        "document_tokens": document_tokens,
        "temperature": temperature,
        "timeout_s": timeout_s,
        "input_usd_per_million": input_usd_per_million,
        "output_usd_per_million": output_usd_per_million,
        "duplicate": duplicate,
        "hard_overlap": hard_overlap,
        "keep_incomplete": keep_incomplete,
        "seed": seed,
    }
    run_synthesize(fields | ({"teacher": teacher} if teacher else {}), output, dry_run)


@app.command()
def pretrain(
    data: Annotated[str, typer.Option(help="Captions in LLaVA's format (LLaVA-Pretrain).", metavar="FILE")],
    images: ImageFolder,
    output: Output,
    preset: Annotated[
        str | None, typer.Option(help="A preset of `train` with _projector after its name.", metavar="NAME")
    ] = None,
    gpus: Gpus = None,
    setting: Setting = None,
) -> None:
    """Stage 1: train the projector alone, on captions; a run that was stopped goes on."""
    from vlfilter.cli.mlm_filter_run import read_settings
    from vlfilter.cli.unifilter_run import run_steps

    step = {
        "data": data,
        "images": images,
        "preset": preset,
        "gpus": gpus,
        "output": output,
        "settings": read_settings(setting or []),
    }
    run_steps({"output": output, "pretrain": step}, "pretrain")


@app.command()
def train(
    data: Annotated[str, typer.Option(help="Quality rows to train on.", metavar="FILE")],
    validation: Annotated[str, typer.Option(help="Quality rows that choose the best epoch.", metavar="FILE")],
    images: ImageFolder,
    output: Output,
    preset: Preset = None,
    projector: Annotated[
        str | None, typer.Option(help="What `pretrain` wrote (DIR/model), mm_projector.bin or a hub name.")
    ] = None,
    gpus: Gpus = None,
    setting: Setting = None,
) -> None:
    """Stage 2: train the classifier; each epoch is validated, the best is kept, and a stopped run goes on."""
    from vlfilter.cli.mlm_filter_run import read_settings
    from vlfilter.cli.unifilter_run import run_steps

    step = {
        "data": data,
        "validation": validation,
        "images": images,
        "preset": preset,
        "projector": projector,
        "gpus": gpus,
        "output": output,
        "settings": read_settings(setting or []),
    }
    run_steps({"output": output, "train": step}, "train")


@app.command()
def run(
    config: Annotated[str, typer.Option(help="A YAML file: output, synthesize, pretrain, train, …", metavar="FILE")],
) -> None:
    """Run the steps that a YAML file describes; what is done already is not done again."""
    from vlfilter.cli.mlm_filter_run import read_config
    from vlfilter.cli.unifilter_run import run_steps

    run_steps(read_config(config), config)
