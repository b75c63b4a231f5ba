"""`vlfilter self-filter image-reward`: ImageReward of every instruction."""

from __future__ import annotations

from typing import Annotated

import typer


def image_reward(
    data: Annotated[str, typer.Option(help="What `preprocess` wrote.", metavar="DIR")],
    images: Annotated[str, typer.Option(help="The folder or s3:// prefix of the images.", metavar="DIR")],
    output: Annotated[str, typer.Option(help="For the Parquet files.", metavar="DIR")],
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name; else THUDM/ImageReward.", metavar="MODEL")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="What the model computes in: float32 (as published), bfloat16, float16, auto.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    batch_tokens: Annotated[int, typer.Option(help="Tokens in one pass; a pair has 232.")] = 8192,
    workers: Annotated[int, typer.Option(help="Threads that read images.")] = 4,
) -> None:
    """Score each row's text and image with ImageReward; finished files are not touched."""
    from vlfilter.methods.self_filter.rewards import MODEL, RewardSettings, image_rewards

    settings = RewardSettings(model or MODEL, precision, device, batch_tokens, workers)
    done = image_rewards(data, images, output, settings, tell=typer.echo)
    typer.echo(f"rows: {', '.join(f'{count} {status}' for status, count in done.rows.items()) or 'none'}")
    typer.echo(f"wrote {done.made} files below {output}, {done.kept} were there already")
