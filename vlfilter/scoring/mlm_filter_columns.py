"""MLM-Filter's answers as columns of a score table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import SampleError, Status
from vlfilter.scoring.answers import read_original, read_score
from vlfilter.scoring.numbers import entropy, expectation


def score_columns(metrics: Sequence[str]) -> pa.Schema:
    """For each metric its score (0 to 100), the whole number answered or likeliest, and the entropy in nats."""
    fields = []
    for metric in metrics:
        fields += [
            pa.field(f"{metric}_score", pa.float32()),
            pa.field(f"{metric}_answer", pa.int16()),
            pa.field(f"{metric}_entropy", pa.float32()),
        ]
    return pa.schema([*fields, pa.field("truncated", pa.bool_())])


def expected_columns(metrics: Sequence[str], probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
    """Distributions (B, metrics, 101) as columns."""
    scores, spread = expectation(probabilities), entropy(probabilities)
    likeliest = probabilities.argmax(-1)
    columns: dict[str, Sequence[Any]] = {}
    for i, metric in enumerate(metrics):
        columns[f"{metric}_score"] = scores[:, i].tolist()
        columns[f"{metric}_answer"] = likeliest[:, i].tolist()
        columns[f"{metric}_entropy"] = spread[:, i].tolist()
    return columns


def greedy_columns(metrics: Sequence[str], texts: Sequence[Sequence[str]], original: bool) -> dict[str, Sequence[Any]]:
    """Answered texts (B, metrics) as columns; what is no number from 0 to 100 is an error in its place."""
    columns: dict[str, list[Any]] = {}
    for i, metric in enumerate(metrics):
        answers: list[Any] = []
        for row in texts:
            number = read_original(row[i]) if original else read_score(row[i])
            if number is None or not 0 <= number <= 100:
                reason = f"{metric}: the model answered {row[i]!r}, which is no number from 0 to 100"
                answers.append(SampleError(Status.FAILED, reason))
            else:
                answers.append(number)
        numbers = [answer if isinstance(answer, int) else None for answer in answers]
        columns[f"{metric}_score"] = [float(answer) if isinstance(answer, int) else answer for answer in answers]
        columns[f"{metric}_answer"] = numbers
        columns[f"{metric}_entropy"] = [None] * len(texts)
    return dict(columns)
