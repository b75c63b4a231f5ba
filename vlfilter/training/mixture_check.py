"""A look at a mixture's data sets before a GPU is taken: what is there, what is missing and where it should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlfilter.data.annotations import Instruction
from vlfilter.data.image_files import load_image, missing_paths
from vlfilter.data.receipts import exists
from vlfilter.data.samples import SampleError
from vlfilter.data.storage import filesystem, join
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import IMAGE_PLACEHOLDER
from vlfilter.training.mixture import Mixture, MixtureEntry
from vlfilter.training.mixture_rows import read_dataset

SHOWN = 3  # lines about rows of one kind


@dataclass(frozen=True, slots=True)
class Look:
    """A row that was read whole, its image decoded; `problem` says why it could not be."""

    id: str
    image: str | None
    question: str
    answer: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DatasetState:
    """What was found of a data set. `problems` are for people; without any it can be trained on.

    `rows` can be used as far as their text goes, `images` are the distinct ones they name and `absent` how many of
    those are no file; `filtered` rows are left out by rule, counted by reason, `unreadable` ones cannot be used.
    """

    name: str
    kind: str
    problems: tuple[str, ...]
    rows: int = 0
    unreadable: int = 0
    filtered: Mapping[str, int] = field(default_factory=dict)
    not_sampled: int = 0
    images: int = 0
    absent: int = 0
    looks: tuple[Look, ...] = ()

    @property
    def ready(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For a table: one value a column."""
        return {
            "data set": self.name, "schema": self.kind, "rows": self.rows, "left out": sum(self.filtered.values()),
            "unusable": self.unreadable, "images": self.images, "missing": self.absent,
            "state": "ready" if self.ready else "; ".join(self.problems),
        }  # fmt: skip


def look_at(mixture: Mixture, seed: int, samples: int = SHOWN, bad_rows: float = 0.01) -> Iterator[DatasetState]:
    """Each data set in its order: all rows are read, all images looked for, and `samples` of them decoded.

    More than a fraction `bad_rows` of rows that cannot be used is a problem, as it is for a training.
    """
    for entry in mixture.datasets:
        yield _state(entry, seed, samples, bad_rows)


def require_ready(states: Sequence[DatasetState]) -> None:
    """Raises `VlfilterError` listing what is missing of which data set."""
    if lacking := [state for state in states if not state.ready]:
        lines = [f"\n  {state.name}: {problem}" for state in lacking for problem in state.problems]
        raise VlfilterError(f"{len(lacking)} of {len(states)} data sets cannot be trained on:{''.join(lines)}")


def _state(entry: MixtureEntry, seed: int, samples: int, bad_rows: float) -> DatasetState:
    missing = [f"there is no annotation file {url}" for url in entry.files if not exists(url)]
    if entry.images is not None and not _is_folder(entry.images):
        missing.append(f"there is no image folder {entry.images}")
    if missing:
        return DatasetState(entry.name, entry.kind, tuple(missing))
    try:
        found = read_dataset(entry, seed)
    except VlfilterError as error:
        return DatasetState(entry.name, entry.kind, (str(error),))
    paths = {row.image for row in found.rows if row.image is not None}
    absent = set(missing_paths(sorted(paths), entry.images)) if entry.images else set()
    there = [row for row in found.rows if row.image not in absent]
    looks = tuple(_look(row, entry) for row in _spread(there, samples))
    problems = [f"{look.id}: {look.problem}" for look in looks if look.problem]
    total = len(found.rows) + len(found.unreadable)
    if not there or total - len(there) > bad_rows * total:
        problems += _unusable(found.unreadable, absent, entry, total - len(there), total)
        if not total and found.filtered:
            problems += [f"{count} rows are left out: {reason}" for reason, count in found.filtered.items()]
    return DatasetState(
        entry.name, entry.kind, tuple(problems), len(found.rows), len(found.unreadable), dict(found.filtered),
        found.not_sampled, len(paths), len(absent), looks,
    )  # fmt: skip


def _unusable(unreadable: Sequence[str], absent: set[str], entry: MixtureEntry, count: int, total: int) -> list[str]:
    lines = [f"{count} of {total} rows cannot be used", *unreadable[:SHOWN]]
    if absent:
        first = min(absent)
        lines.append(f"{len(absent)} images are missing, such as {join(entry.images or '', first)}")
    return lines


def _spread(rows: Sequence[Instruction], samples: int) -> list[Instruction]:
    """Some rows from all parts of the file."""
    count = min(samples, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _look(row: Instruction, entry: MixtureEntry) -> Look:
    question, answer = row.pairs[0]
    asked = question.replace(IMAGE_PLACEHOLDER, "").strip()
    problem = ""
    if row.image is not None:
        try:
            load_image(entry.images or "", row.image)
        except SampleError as error:
            problem = f"image {row.image} cannot be used: {error.reason}"
        except OSError as error:
            problem = f"image {row.image} cannot be read: {error.strerror or error}"
    return Look(row.id, row.image, asked, answer, problem)


def _is_folder(url: str) -> bool:
    fs, path = filesystem(url)
    return bool(fs.isdir(path))
