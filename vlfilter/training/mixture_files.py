"""What the readers of a mixture's data sets share."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vlfilter.data.annotations import Instruction
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.training.mixture import MixtureEntry

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """A data set's rows in the order of its file. `unreadable` are lines about rows that cannot be used, `filtered`
    counts by reason the rows that are left out by rule; `not_sampled` rows were left aside by `sample_num`."""

    rows: list[Instruction]
    unreadable: list[str]
    filtered: Mapping[str, int] = field(default_factory=dict)
    not_sampled: int = 0


def sampled(rows: Sequence[Row], entry: MixtureEntry, seed: int) -> tuple[list[Row], int]:
    """`sample_num` of the rows in their order, and how many were left aside."""
    count = entry.sample_num
    if count is None or count >= len(rows):
        return list(rows), 0
    chosen = random.Random(f"{seed} {entry.name}").sample(range(len(rows)), count)  # noqa: S311
    return [rows[place] for place in sorted(chosen)], len(rows) - count


def read_json(entry: MixtureEntry) -> Any:
    """What the entry's one file holds."""
    (url,) = entry.files
    try:
        return json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url} (data set {entry.name}).") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None
