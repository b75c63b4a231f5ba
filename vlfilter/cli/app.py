"""`vlfilter …`: one function a command, thin over the library and the flows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vlfilter import __version__
from vlfilter.cli.data_engine import app as data_engine
from vlfilter.cli.datasets import app as datasets
from vlfilter.cli.doctor import doctor
from vlfilter.cli.evaluate import app as evaluate
from vlfilter.cli.minigpt_v2 import app as minigpt_v2
from vlfilter.cli.mlm_filter import app as mlm_filter
from vlfilter.cli.models import models
from vlfilter.cli.self_filter import app as self_filter
from vlfilter.cli.unifilter import app as unifilter
from vlfilter.errors import VlfilterError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(models, name="models")
app.add_typer(mlm_filter, name="mlm-filter")
app.add_typer(unifilter, name="unifilter")
app.add_typer(data_engine, name="data-engine")
app.add_typer(self_filter, name="self-filter")
app.add_typer(minigpt_v2, name="minigpt-v2")
app.add_typer(datasets, name="datasets")
app.add_typer(evaluate, name="evaluate")
app.command()(doctor)

Scores = Annotated[str, typer.Option(help="Where the score tables are.", metavar="URL")]
Where = Annotated[
    str | None, typer.Option(help='E.g. "quality_score >= 2.5 and clip_score >= top(30%)".', metavar="EXPR")
]
Top = Annotated[str | None, typer.Option(help="Keep the best: 30% or a number of samples.", metavar="AMOUNT")]
By = Annotated[str | None, typer.Option(help="The column --top goes by.", metavar="COLUMN")]
Dispatched = typer.Option(
    help="inline (here), or the deployment whose workers take the groups, e.g. score-shard-group/gpu.",
    metavar="WHERE",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def vlfilter(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Score, select and reshard the data that multimodal models learn from."""


@app.command()
def score(
    shards: Annotated[
        list[str], typer.Option(help="Path, glob, braces, folder, s3:// prefix or manifest.", metavar="SPEC")
    ],
    output: Annotated[str, typer.Option(help="Where the score tables go.", metavar="URL")],
    scorer: Annotated[list[str], typer.Option(help="Repeat it to score with several in one pass.", metavar="NAME")],
    model: Annotated[list[str] | None, typer.Option(help="Folder or hub name.", metavar="NAME=PATH")] = None,
    compat: Annotated[str | None, typer.Option(help="`original`: as the published scripts.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    batch_tokens: Annotated[int, typer.Option(help="Tokens in a batch.")] = 8192,
    workers: Annotated[int, typer.Option(help="How many decode and prepare beside the model.")] = 2,
    prepare_in: Annotated[str, typer.Option(help="threads, processes, or auto: processes beside a GPU.")] = "auto",
    shards_in_flight: Annotated[int, typer.Option(help="Shards that are worked on at a time.")] = 2,
    group_size: Annotated[int, typer.Option(help="Shards in one group of tasks.")] = 200,
    dispatch: Annotated[str, Dispatched] = "inline",
    option: Annotated[list[str] | None, typer.Option(help="An option of a scorer.", metavar="NAME.KEY=VALUE")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Where mlm_filter's model runs: transformers (here), vllm (a server).")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="The vLLM server: http://HOST:8000/v1.", metavar="URL")] = None,
) -> None:
    """Score every sample of the shards; finished shards are not touched."""
    from vlfilter.cli.scoring import run_score

    run_score(
        {
            "shards": shards,
            "output": output,
            "scorer": scorer,
            "model": _pairs(model or [], "--model"),
            "compat": compat,
            "device": device,
            "dtype": dtype,
            "batch_tokens": batch_tokens,
            "workers": workers,
            "prepare_in": prepare_in,
            "shards_in_flight": shards_in_flight,
            "group_size": group_size,
            "dispatch": _dispatch(dispatch),
            "options": _on_server(_options(option or []), scorer, {"backend": backend, "base_url": base_url}),
        }
    )


@app.command()
def status(output: Annotated[str, typer.Option(help="Where the score tables are.", metavar="URL")]) -> None:
    """Show what is done, stale, failed and missing, by scorer, and why."""
    from vlfilter.cli.scoring import show_status

    raise typer.Exit(show_status(output))


@app.command()
def retry(
    output: Annotated[str, typer.Option(help="Where the score tables are.", metavar="URL")],
    scorer: Annotated[list[str] | None, typer.Option(help="Only these; all by default.", metavar="NAME")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Also shards with such rows, e.g. failed.", metavar="STATUS")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Also shards with rows whose reason contains it.", metavar="TEXT")
    ] = None,
    dispatch: Annotated[str | None, Dispatched] = None,
) -> None:
    """Score again what an output lacks, as last asked for; with --status or --reason also shards with such rows."""
    from vlfilter.cli.retry import run_retry

    fields = {"output": output, "scorer": scorer or [], "status": status or [], "reason": reason}
    run_retry(fields | ({"dispatch": _dispatch(dispatch)} if dispatch else {}))


@app.command()
def select(
    scores: Scores,
    output: Annotated[str, typer.Option(help="FILE.npy (DataComp), .parquet or .txt (keys).", metavar="FILE")],
    where: Where = None,
    top: Top = None,
    by: By = None,
    recipe: Annotated[
        str | None, typer.Option(help="A published rule by name, e.g. itm66_odf20, su85.", metavar="NAME")
    ] = None,
    allow_incomplete: Annotated[bool, typer.Option("--allow-incomplete", help="Though some shards failed.")] = False,
) -> None:
    """Choose samples by an expression over score columns, an exact top fraction, or a published recipe."""
    from vlfilter.cli.choosing import run_select

    run_select(scores, output, where, top, by, recipe, allow_incomplete)


@app.command()
def reshard(
    shards: Annotated[list[str], typer.Option(help="The shards that were scored.", metavar="SPEC")],
    subset: Annotated[str, typer.Option(help="What `select` wrote, or a DataComp subset.", metavar="FILE")],
    output: Annotated[str, typer.Option(help="Where the new tars go.", metavar="URL")],
    samples_per_shard: Annotated[int, typer.Option(help="Samples in a new tar.")] = 10_000,
    workers: Annotated[int, typer.Option(help="Processes that copy.")] = 2,
) -> None:
    """Write the chosen samples to new tars, byte for byte; a run that was stopped goes on."""
    from vlfilter.cli.choosing import run_reshard

    run_reshard(shards, subset, output, samples_per_shard, workers)


@app.command()
def report(
    scores: Scores,
    output: Annotated[str, typer.Option(help="The HTML file.", metavar="FILE")] = "report.html",
    where: Where = None,
) -> None:
    """Write one HTML file about the scores that opens without a network."""
    from vlfilter.report.html import build_report

    build_report(scores, output, where=where)
    typer.echo(f"wrote {output}")


@app.command()
def explain(
    key: Annotated[str, typer.Argument(help="A sample's key or uid.")],
    scores: Scores,
    where: Where = None,
) -> None:
    """Show where a sample lies, every score it has, and what decided about it."""
    from vlfilter.cli.choosing import show_explanation

    show_explanation(key, scores, where)


@app.command()
def judge(
    image: Annotated[str, typer.Argument(help="A file, or an http or https address.")],
    caption: Annotated[str, typer.Option(help="The text beside it.", metavar="TEXT")],
    model: Annotated[str, typer.Option(help="An MLM-Filter checkpoint: folder or hub name.", metavar="NAME")],
    metric: Annotated[str, typer.Option(help="all, or names joined by commas.", metavar="NAMES")] = "all",
    answer: Annotated[str, typer.Option(help="expected, or greedy (the number it would write).")] = "expected",
    explain: Annotated[bool, typer.Option("--explain", help="Let the model write its reasons.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    option: Annotated[list[str] | None, typer.Option(help="Another option.", metavar="KEY=VALUE")] = None,
) -> None:
    """Grade one image and its caption with MLM-Filter."""
    from vlfilter.cli.judge import Question, run_judge

    given = _options([f"mlm_filter.{entry}" for entry in option or []]).get("mlm_filter", {})
    options = {**given, "metric": metric, "answer": answer}
    run_judge(Question(image, caption, model, device, dtype, explain, options))


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="A folder for all that the demo makes.")] = "demo-output",
    seed: Annotated[int, typer.Option(help="Of the data and the training.")] = 0,
) -> None:
    """Run the main job on real images with planted faults: train tiny scorers, score, select, reshard, report."""
    from vlfilter.cli.demo import run_demo

    run_demo(output, seed)


def _pairs(given: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name and equals and value):
            raise VlfilterError(f"{option} {entry!r}: write NAME=VALUE.")
        pairs[name] = value
    return pairs


def _dispatch(where: str) -> dict[str, str]:
    return {"mode": "inline"} if where == "inline" else {"mode": "deployment", "deployment": where}


def _on_server(
    options: dict[str, dict[str, Any]], scorers: list[str], given: dict[str, str | None]
) -> dict[str, dict[str, Any]]:
    """`--backend` and `--base-url` among the options of the scorer that has them."""
    named = {name: value for name, value in given.items() if value is not None}
    if not named:
        return options
    if "mlm_filter" not in scorers:
        raise VlfilterError(f"--{next(iter(named)).replace('_', '-')} is for the scorer mlm_filter.")
    return options | {"mlm_filter": options.get("mlm_filter", {}) | named}


def _options(given: list[str]) -> dict[str, dict[str, Any]]:
    """`unifilter.image_mode=pad` → {"unifilter": {"image_mode": "pad"}}; values are JSON where they can be."""
    import json

    options: dict[str, dict[str, Any]] = {}
    for name, value in _pairs(given, "--option").items():
        scorer, dot, key = name.rpartition(".")
        if not dot:
            raise VlfilterError(f"--option {name!r}: write NAME.KEY=VALUE, e.g. unifilter.image_mode=pad.")
        try:
            options.setdefault(scorer, {})[key] = json.loads(value)
        except json.JSONDecodeError:
            options.setdefault(scorer, {})[key] = value
    return options
