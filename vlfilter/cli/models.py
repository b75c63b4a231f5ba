"""`vlfilter models …`: checkpoints from one layout to another."""

from __future__ import annotations

from typing import Annotated

import typer

from vlfilter.errors import VlfilterError

models = typer.Typer(no_args_is_help=True, help="Convert checkpoints.")


@models.callback()
def _models() -> None:
    """Convert checkpoints."""


@models.command("export-hf")
def export(
    checkpoint: Annotated[str, typer.Argument(help="Folder or hub name of a LLaVA-1.5 model.", metavar="CHECKPOINT")],
    output: Annotated[str, typer.Option(help="A new folder.", metavar="DIR")],
    model_base: Annotated[
        str | None, typer.Option(help="The language model of a projector-only checkpoint.", metavar="NAME")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto (as config.json says), float32, bfloat16, float16.")] = "auto",
    vision: Annotated[str, typer.Option(help="The tower's weights: auto, embedded, hub.")] = "auto",
) -> None:
    """Write a published LLaVA-1.5 checkpoint in transformers' own layout, which `vllm serve` loads."""
    if vision not in ("auto", "embedded", "hub"):
        raise VlfilterError(f"--vision {vision!r} is unknown: auto, embedded, hub.")
    from vlfilter.models.startup import import_transformers

    import_transformers()
    from vlfilter.models.hf_layout import export_hf

    folder = export_hf(checkpoint, output, base=model_base, dtype=dtype, vision=vision)  # type: ignore[arg-type]
    typer.echo(f"wrote {folder}")
