"""A person looks at a sample of the new questions before they are trained on, and says how the run goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Literal

from prefect.artifacts import create_table_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import get_current_settings
from pydantic import Field

from vlfilter.data.aokvqa import VqaRow, choices_text, read_rows, write_json
from vlfilter.data.receipts import file_digest
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.places import RoundPlaces
from vlfilter.methods.data_engine.steps import GateStep


class GateAnswer(RunInput):
    """The form on the paused run's page."""

    decision: Literal["accept", "stop"] = Field(default="accept", description="Train on these questions, or stop here.")
    note: str = Field(default="", description="Kept with the round.")


def check_gate() -> None:
    """Raises `VlfilterError` where nobody could answer: this process's own server has no page that others see."""
    if get_current_settings().api.url is None:
        raise VlfilterError(
            "the gate waits for an answer in Prefect's UI: set PREFECT_API_URL to a server, or leave it out."
        )


def ask_person(step: GateStep, places: RoundPlaces, number: int, seed: int) -> GateAnswer:
    """The answer for the round's data, of this run or an earlier one; called in the flow, which pauses until it comes.

    Raises `VlfilterError` when none comes in time.
    """
    data = file_digest(places.data)
    if (known := _known(places.gate, data)) is not None:
        return known
    rows, _ = read_rows(places.data)
    _show(sample_of(rows, step.sample, seed), len(rows), number)
    form = GateAnswer.with_initial_data(
        description=f"Round {number}: {len(rows)} new questions in `{places.data}`; a sample is among the artifacts."
    )
    try:
        said = pause_flow_run(
            wait_for_input=form, timeout=int(step.hours * 3600), poll_interval=step.poll_s, key=f"round-{number}-{data}"
        )
    except FlowPauseTimeout:
        raise VlfilterError(f"nobody answered in {step.hours:g} hours: start it again to be asked again.") from None
    answer = GateAnswer(decision=said.decision, note=said.note)
    write_json(places.gate, {"data": data, "decision": answer.decision, "note": answer.note})
    return answer


def sample_of(rows: Sequence[VqaRow], size: int, seed: int) -> list[VqaRow]:
    """At random, in the file's order."""
    chosen = random.Random(seed).sample(range(len(rows)), min(size, len(rows)))  # noqa: S311
    return [rows[place] for place in sorted(chosen)]


def _known(url: str, data: str) -> GateAnswer | None:
    """An earlier answer about the same data."""
    try:
        found = json.loads(read_bytes(url))
        return GateAnswer(decision=found["decision"], note=found["note"]) if found["data"] == data else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _show(rows: Sequence[VqaRow], count: int, number: int) -> None:
    table = [
        {
            "type": row.question_type or "",
            "image": row.file_name,
            "question": row.question,
            "choices": choices_text(row.choices),
            "answer": row.correct_choice,
            "rationale": row.rationales[0] if row.rationales else "",
        }
        for row in rows
    ]
    description = f"Round {number}: {len(table)} of {count} new questions"
    create_table_artifact(table, key=f"data-engine-round-{number}-sample", description=description)
