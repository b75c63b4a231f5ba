"""What people look at on the pages of a data engine's runs: types, counts, verdicts, cost, gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.loss_curve import loss_curve
from tasks.markdown import bullets

VERDICTS = ("image_verdict", "text_verdict", "overlap_verdict", "earlier_verdict", "dropped")


def counts_table(step: str, number: int, counts: Mapping[str, int]) -> None:
    """Rows by status."""
    rows = [{"status": status, "rows": count} for status, count in counts.items()]
    create_table_artifact(rows, key=_key(number, step), description=f"{_round(number)}: rows after {step}")


def types_table(number: int, told: Mapping[str, Any]) -> None:
    """How the model answers each type, the weakest first: the part that steers, and the part that reports."""
    description = (
        f"{_round(number)}: {told['accuracy']} % of the questions held out answered right, "
        f"{told['accuracy_steering']} % of those that steer"
    )
    create_table_artifact(list(told["types"]), key=_key(number, "types"), description=description)


def queries_table(number: int, types: Sequence[Mapping[str, Any]]) -> None:
    """Each type's bad cases, share and queries, and why it is not asked about, if it is not."""
    description = f"{_round(number)}: queries by type"
    create_table_artifact([dict(line) for line in types], key=_key(number, "queries"), description=description)


def verdicts_table(number: int, told: Mapping[str, Any]) -> None:
    """How often each verdict was given, and what rows were dropped for."""
    rows = [
        {"finding": name.replace("_", " "), "value": value, "rows": count}
        for name in VERDICTS
        for value, count in told[name].items()
    ]
    rows += [{"finding": name, "value": "found", "rows": told[name]} for name in ("duplicates", "leaks")]
    description = f"{_round(number)}: {told['kept']} of {told['rows']} questions kept"
    create_table_artifact(rows, key=_key(number, "verdicts"), description=description)


def training_loss(output: str, number: int) -> None:
    """Of a training, as far as it came; number 0 is the one on the base mixture."""
    loss_curve(output, _key(number, "loss"), _round(number))


def gain_note(scores: Sequence[float], said: Sequence[str]) -> None:
    """The models' accuracy in percent on the reporting split, and what was said of each round."""
    lines = ["| model | accuracy (%) | gain |", "|---|---|---|"]
    for number, score in enumerate(scores):
        gain = "" if number == 0 else f"{score - scores[number - 1]:+.1f}"
        lines.append(f"| {'before the rounds' if number == 0 else f'of round {number}'} | {score:.1f} | {gain} |")
    text = "\n".join([*lines, "", bullets(said)])
    create_markdown_artifact(text, key="data-engine-rounds", description="Accuracy on the held-out questions")


def _key(number: int, name: str) -> str:
    return f"data-engine-round-{number}-{name}"


def _round(number: int) -> str:
    return f"Round {number}" if number else "Base"
