"""`vlfilter data-engine postprocess`: step 4."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ModeName(StrEnum):
    COMPAT = "compat"
    FIXED = "fixed"


class FormatName(StrEnum):
    Q_A = "Q-A"
    QM_A = "QM-A"
    QM_AE = "QM-AE"


def postprocess(
    replies: Annotated[str, typer.Option("--input", "-i", help="gptvqa_result.jsonl.", metavar="FILE")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="gptvqa_train_data.json, in A-OKVQA's form.", metavar="FILE")
    ],
    mode: Annotated[
        ModeName, typer.Option(help="compat: as the original. fixed: with its known defects mended.")
    ] = ModeName.FIXED,
    llava: Annotated[str | None, typer.Option(help="Write conversations in LLaVA's form too.", metavar="FILE")] = None,
    form: Annotated[
        FormatName, typer.Option("--format", help="Of --llava: without choices, with them, with a rationale too.")
    ] = FormatName.QM_A,
    image_prefix: Annotated[
        str, typer.Option(help="Of --llava: the folder in front of image names.", metavar="DIR")
    ] = "",
    rejected: Annotated[
        str | None, typer.Option(help="What was dropped, and why; else rejected.parquet beside.", metavar="FILE")
    ] = None,
) -> None:
    """Turn replies into training data; every reply that is dropped is kept with its reason."""
    from vlfilter.methods.data_engine import postprocess as step

    settings = step.PostprocessSettings(mode.value, llava, form.value, image_prefix)
    place = rejected or step.rejected_beside(output)
    told = step.postprocess(replies, output, settings, place)
    typer.echo(step.summary_line(told))
    if told["not_in_llava"]:
        typer.echo(f"{told['not_in_llava']} of these cannot be trained on and are not in {llava}")
    typer.echo(f"wrote {', '.join([output, *([llava] if llava else []), place])}")
