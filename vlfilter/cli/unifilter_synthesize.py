"""`vlfilter unifilter synthesize`: the library's step in the terminal, log lines while it works, counts at the end."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import ValidationError
from rich.table import Table

from vlfilter.cli.mlm_filter_run import log_lines, say
from vlfilter.cli.scoring import console
from vlfilter.data.storage import check_writable
from vlfilter.errors import VlfilterError
from vlfilter.methods.unifilter.synthesis import (
    SynthesisPlaces,
    SynthesizeStep,
    choose,
    estimate,
    summary_lines,
    synthesize,
)


def run_synthesize(fields: dict[str, Any], output: str, dry_run: bool) -> None:
    """Ctrl-C ends with exit code 130; what was answered is kept."""
    try:
        step = SynthesizeStep.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"][:1]).replace("_", "-") if first["loc"] else "options"
        raise VlfilterError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    check_writable(output)
    try:
        with log_lines():
            if dry_run:
                _dry_run(step, output)
                return
            told = synthesize(step, output)
    except KeyboardInterrupt:
        say("stopped: what was answered is kept, and the same command goes on.")
        raise typer.Exit(130) from None
    for line in summary_lines(told):
        say(line)
    _show(told["keep"]["levels"])
    places = SynthesisPlaces.below(output)
    say(f"wrote {places.train} and {places.validation}, images below {places.images}; rejected: {places.rejected}")


def _dry_run(step: SynthesizeStep, output: str) -> None:
    for kind, found in choose(step, output)["kinds"].items():
        say(f"{kind}: {found['chosen']} of {found['samples']} chosen")
    counted = estimate(step, output)
    say(str(counted))
    if step.max_usd is not None and counted.usd_most is not None and counted.usd_most > step.max_usd:
        say(f"at worst that is more than --max-usd {step.max_usd:g}: the run would stop there, and go on when raised.")


def _show(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
