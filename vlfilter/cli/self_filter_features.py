"""`vlfilter self-filter preprocess` and `features`: rows, CLIP features and normalised scores."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from vlfilter.errors import VlfilterError

if TYPE_CHECKING:
    from vlfilter.methods.self_filter.clip_features import ClipSummary
    from vlfilter.methods.self_filter.score_features import ScoresSummary


class Kind(StrEnum):
    CLIP = "clip"
    SCORES = "scores"


class Scale(StrEnum):
    MINMAX = "minmax"
    RANK = "rank"


class Stored(StrEnum):
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def preprocess(
    annotations: Annotated[str, typer.Option(help="Instructions in LLaVA's format.", metavar="FILE")],
    output: Annotated[str, typer.Option(help="For the numbered list, the texts and the rows.", metavar="DIR")],
    rows_per_shard: Annotated[int, typer.Option(help="Rows in one file.")] = 8192,
) -> None:
    """Number the instructions and make the texts and rows that all later steps read."""
    from vlfilter.methods.self_filter import preprocess as step

    done = step.preprocess(annotations, output, rows_per_shard)
    typer.echo(
        f"{done.rows} rows in {len(done.shards)} files below {output}: {_counts(done.counts)}; "
        f"distinct images: {done.images}, rows of text only: {done.text_only}"
    )
    for example in done.examples:
        typer.echo(f"  {example}")


def features(
    data: Annotated[str, typer.Option(help="What `preprocess` wrote.", metavar="DIR")],
    output: Annotated[str, typer.Option(help="For the Parquet files.", metavar="DIR")],
    kind: Annotated[
        Kind, typer.Option(help="clip: vectors of image and text. scores: three numbers, normalised.")
    ] = Kind.CLIP,
    images: Annotated[
        str | None, typer.Option(help="For clip: the folder or s3:// prefix of the images.", metavar="DIR")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="For clip: folder or hub name; else openai/clip-vit-large-patch14.")
    ] = None,
    dtype: Annotated[Stored, typer.Option(help="For clip: what vectors are stored in.")] = Stored.FLOAT16,
    precision: Annotated[
        str, typer.Option(help="For clip: what the model computes in: float32 (as published), bfloat16, float16, auto.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    batch: Annotated[int, typer.Option(help="Texts or images in one pass.")] = 128,
    workers: Annotated[int, typer.Option(help="Threads that read images.")] = 4,
    clip: Annotated[
        str | None,
        typer.Option(help="For scores: what --kind clip wrote, or {id: score}.", metavar="DIR|FILE.json"),
    ] = None,
    image_reward: Annotated[
        str | None,
        typer.Option(help="For scores: what `image-reward` wrote, or {id: score}.", metavar="DIR|FILE.json"),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="For scores: what `judge` wrote, or {id: score}.", metavar="DIR|FILE.json")
    ] = None,
    normalise: Annotated[
        Scale, typer.Option(help="For scores: minmax (as published) or rank, onto [-1, 1].")
    ] = Scale.MINMAX,
    work: Annotated[
        str | None, typer.Option(help="For scores: a local folder for large intermediate files.", metavar="DIR")
    ] = None,
) -> None:
    """Compute features of every row; finished files are not touched."""
    if kind is Kind.CLIP:
        from vlfilter.methods.self_filter.clip_features import MODEL, ClipSettings, clip_features

        settings = ClipSettings(model or MODEL, dtype.value, precision, device, batch, workers)
        _refuse({"clip": clip, "image-reward": image_reward, "judge": judge, "work": work}, kind)
        folder = _given("images", images, kind)
        _show_clip(clip_features(data, folder, output, settings, tell=typer.echo), output)
        return
    from vlfilter.methods.self_filter.score_features import ScoreInputs, score_features

    _refuse({"images": images, "model": model}, kind)
    inputs = ScoreInputs(
        _given("clip", clip, kind), _given("image-reward", image_reward, kind), _given("judge", judge, kind)
    )
    _show_scores(score_features(data, inputs, output, normalise.value, work), output)


def _show_clip(done: ClipSummary, output: str) -> None:
    typer.echo(f"rows: {_counts(done.rows)}; distinct images: {_counts(done.images)}")
    typer.echo(f"wrote {done.made} files below {output}, {done.kept} were there already")


def _show_scores(done: ScoresSummary, output: str) -> None:
    typer.echo(f"rows: {_counts(done.rows)}; {done.judge_filled} of the kept had no judge score and got the mean")
    for name, (lowest, highest) in done.ranges.items():
        more = f" ({done.unknown[name]} values belong to no row)" if done.unknown[name] else ""
        typer.echo(f"  {name}: {lowest:g} to {highest:g}{more}")
    for example in done.examples:
        typer.echo(f"  {example}")
    typer.echo(f"scores are in {output}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"


def _given(name: str, value: str | None, kind: Kind) -> str:
    if not value:
        raise VlfilterError(f"--kind {kind.value} needs --{name}.")
    return value


def _refuse(given: dict[str, str | None], kind: Kind) -> None:
    for name, value in given.items():
        if value is not None:
            raise VlfilterError(f"--{name} is not for --kind {kind.value}.")
