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


@models.command("import-minigpt-v2")
def import_minigpt(
    checkpoint: Annotated[str, typer.Argument(help="A .pth file with LoRA and projection.", metavar="CHECKPOINT")],
    output: Annotated[str, typer.Option(help="A new folder.", metavar="DIR")],
    vision_tower: Annotated[str, typer.Option(help="EVA's eva_vit_g.pth.", metavar="FILE")],
    language_model: Annotated[
        str, typer.Option(help="Folder or hub name of Llama 2.", metavar="NAME")
    ] = "meta-llama/Llama-2-7b-chat-hf",
    merge: Annotated[
        bool, typer.Option(help="Write a whole model with LoRA in it, or LoRA and projection alone.")
    ] = True,
    dtype: Annotated[str, typer.Option(help="Of the whole model: float16, bfloat16, float32.")] = "float16",
    image_size: Annotated[int, typer.Option(help="Pixels of an image's side.")] = 448,
) -> None:
    """Write a published MiniGPT-v2 checkpoint as a folder that can be evaluated and trained on."""
    from vlfilter.models.startup import import_transformers

    import_transformers()
    from vlfilter.models.device import resolve_dtype
    from vlfilter.training.minigpt_v2 import import_minigpt_v2

    folder = import_minigpt_v2(
        checkpoint, output, language_model=language_model, vision_tower=vision_tower, image_size=image_size,
        merge=merge, dtype=resolve_dtype(dtype, "cpu"),
    )  # fmt: skip
    typer.echo(f"wrote {folder}")


@models.command("export-minigpt-v2")
def export_minigpt(
    model: Annotated[str, typer.Argument(help="Folder of a fine-tuned or imported model with LoRA.", metavar="MODEL")],
    output: Annotated[str, typer.Option(help="A new .pth file.", metavar="FILE")],
) -> None:
    """Write LoRA and projection in MiniGPT-v2's published layout, which its own code loads."""
    from vlfilter.models.startup import import_transformers

    import_transformers()
    from vlfilter.training.minigpt_v2 import export_minigpt_v2

    typer.echo(f"wrote {export_minigpt_v2(model, output)}")
