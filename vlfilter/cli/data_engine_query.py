"""`vlfilter data-engine index` and `query`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from vlfilter.errors import VlfilterError

CLIP = "openai/clip-vit-base-patch32"

Model = Annotated[str, typer.Option(help="A CLIP: folder, hub name or open_clip:…", metavar="NAME")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
Images = Annotated[
    list[str] | None, typer.Option(help="A folder of images, or shards. Repeat it for more shards.", metavar="SPEC")
]


def index(
    images: Annotated[
        list[str], typer.Option(help="A folder of images, or shards. Repeat it for more shards.", metavar="SPEC")
    ],
    output: Annotated[str, typer.Option(help="Where the index goes.", metavar="DIR")],
    annotations: Annotated[
        str | None, typer.Option(help="A COCO file that lists the folder's images with their ids.", metavar="FILE")
    ] = None,
    model: Model = CLIP,
    precision: Annotated[str, typer.Option(help="What the model computes in.")] = "float32",
    device: Device = "auto",
    batch: Annotated[int, typer.Option(help="Images in a batch.")] = 64,
    workers: Annotated[int, typer.Option(help="Threads that read and decode beside the model.")] = 4,
) -> None:
    """Embed an image set with CLIP, once; parts that are done are kept, and a run that was stopped goes on."""
    from vlfilter.retrieval.embed import EmbedSettings

    _build(images, annotations, output, EmbedSettings(model, precision, device, batch, workers))


def query(
    bad_cases: Annotated[str, typer.Option("--input", help="Bad cases by type, from step 1.", metavar="FILE")],
    output: Annotated[str, typer.Option(help="gptvqa_prompt.json; a .parquet with the details lies beside it.")],
    weight: Annotated[
        str | None, typer.Option(help="weight.json: error rate by type; else all types alike.", metavar="FILE")
    ] = None,
    index: Annotated[str | None, typer.Option(help="What `index` wrote, or coco_image.pth.", metavar="URL")] = None,
    images: Images = None,
    captions: Annotated[str | None, typer.Option(help="captions_train2017.json.", metavar="FILE")] = None,
    instances: Annotated[str | None, typer.Option(help="instances_train2017.json.", metavar="FILE")] = None,
    regions: Annotated[
        str | None, typer.Option(help="Visual Genome's region_descriptions.json, for v2.", metavar="FILE")
    ] = None,
    image_data: Annotated[str | None, typer.Option(help="… and its image_data.json.", metavar="FILE")] = None,
    ocr: Annotated[
        str | None, typer.Option(help="Lines of text in images: a list of {image_id, box, text}.", metavar="FILE")
    ] = None,
    bad_case_images: Annotated[
        str | None, typer.Option(help="The folder that the bad cases' image paths start from.", metavar="DIR")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="An earlier round's prompts, whose images are not taken.", metavar="FILE")
    ] = None,
    version: Annotated[
        Literal["v1", "v2"], typer.Option(help="The published way, or the later paper's, rebuilt from its text.")
    ] = "v1",
    maxnum: Annotated[int, typer.Option(help="Queries.")] = 6000,
    topk: Annotated[int, typer.Option(help="Images near a bad case's among which one is drawn.")] = 1000,
    examples: Annotated[int | None, typer.Option(help="Bad cases shown in a query: 2 in v1, 10 in v2.")] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    compat: Annotated[
        bool, typer.Option("--compat", help="The original's order of draws and its indentation.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="The CLIP for the bad cases' images; else the index's own.", metavar="NAME")
    ] = None,
    device: Device = "auto",
) -> None:
    """Write prompts for new questions like those that the model answers wrongly, about new images."""
    from vlfilter.methods.data_engine.query import QueryInputs, QuerySettings, build_queries
    from vlfilter.retrieval.embed import EmbedSettings

    if (index is None) == (not images):
        raise VlfilterError("give either --index (what `data-engine index` wrote, or coco_image.pth) or --images.")
    settings = QuerySettings(version, maxnum, topk, seed, examples, compat, model, device)
    if index is None:
        index = output.rpartition("/")[0] + "/image_index" if "/" in output else "image_index"
        _build(images or [], None, index, EmbedSettings(model or CLIP, device=device))
    inputs = QueryInputs(
        bad_cases, index, weight, captions, instances, regions, image_data, ocr, bad_case_images, tuple(exclude or ())
    )
    _show(build_queries(inputs, output, settings, typer.echo), output)


def _build(images: list[str], annotations: str | None, output: str, settings: Any) -> None:
    from vlfilter.retrieval.sources import image_set
    from vlfilter.retrieval.store import build_index

    told = build_index(image_set(images, annotations), output, settings, typer.echo)
    counts = ", ".join(f"{count} {status}" for status, count in told.images.items())
    typer.echo(f"{output}: {counts}; {told.made} parts embedded, {told.kept} kept")
    for status, reason in told.reasons.items():
        typer.echo(f"  {status}, such as {reason}", err=True)


def _show(told: dict[str, Any], output: str) -> None:
    from rich.table import Table

    from vlfilter.cli.scoring import console

    table = Table("type", "bad cases", "share", "queries", "not asked because")
    for entry in told["types"]:
        table.add_row(*(str(entry[name]) for name in ("type", "bad_cases", "share", "queries", "why")))
    console.print(table)
    how = ", ".join(f"{count} by {how}" for how, count in told["how"].items())
    typer.echo(f"wrote {told['queries']} of {told['wanted']} queries to {output}: images {how}")
    typer.echo("images: " + ", ".join(f"{count} {why}" for why, count in told["images"].items()))
    warnings = [f"{told['without_neighbour']} queries took any image, not a near one"] * bool(told["without_neighbour"])
    warnings += [told["ended"]] * bool(told["ended"])
    warnings += [f"{count} annotations skipped: {why}" for why, count in told["annotations_skipped"].items()]
    warnings += [f"no definition of {kind}: its prompts explain nothing" for kind in told["undefined_types"]]
    for name, what in (("anchors_missing", "bad cases' images"), ("bad_cases_skipped", "bad cases")):
        if entries := told[name]:
            warnings.append(f"{len(entries)} {what} cannot be used, such as {entries[0]}")
    for line in warnings:
        typer.echo(f"warning: {line}", err=True)
