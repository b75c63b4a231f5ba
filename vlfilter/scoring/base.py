"""The scorer, the one extension point: decoded samples in, columns out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved, SampleError, Status
from vlfilter.errors import VlfilterError

GROUP = "vlfilter.scorers"


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """What a run tells a scorer.

    `model` is a local folder or file, or a hub name; `device` is `auto`, `cpu`, `cuda` or `cuda:N`; `dtype` is `auto`
    (bfloat16 on CUDA, float32 on CPU), `float32`, `bfloat16` or `float16`; `compat="original"` reproduces the published
    script's behaviour; `options` holds what is peculiar to one scorer (it rejects names it does not know).
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    compat: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One sample ready for the model: `tokens` is its cost against the batch's token budget (images included)."""

    tokens: int
    payload: Any


@runtime_checkable
class Scorer(Protocol):
    """A way of making columns of a score table.

    The constructor takes `ScorerSettings`, is cheap, imports no torch, and raises `VlfilterError` when the model folder
    or an option is wrong. `load` brings the weights to the device, once. `prepare` runs in several threads at a time,
    before and beside `score`; `score` runs in one thread. A scorer never opens a shard, never retries, never logs
    progress: the engine does that once for all. One that works without a model says so with `needs_model = False`.
    """

    name: str
    columns: pa.Schema

    def fingerprint(self) -> dict[str, Any]:
        """All that changes a score, as JSON: weights, prompts, preprocessing, dtype, options, code version."""
        ...

    def load(self) -> None: ...

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        """CPU work for one sample (resize, tokenise). Raises `SampleError` for content it cannot score."""
        ...

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        """One Python value (float, int, bool, str or None) a sample for each of `columns`, in the order of the batch.

        A `SampleError` in place of a value gives the row its status and reason and leaves its other values.
        Each score is a pure function of its own sample: batch neighbours never change it.
        """
        ...


def one_pair(content: ImageText | Interleaved, name: str) -> ImageText:
    """The content, for a scorer that takes no documents. Raises `SampleError` for one."""
    if not isinstance(content, ImageText):
        raise SampleError(Status.UNSUPPORTED, f"{name} needs one image with one caption, not a document")
    return content


class Preparer(Protocol):
    """What a scorer does to a sample before the model does; a scorer is one itself."""

    @property
    def name(self) -> str: ...

    def prepare(self, content: ImageText | Interleaved) -> Prepared: ...


@runtime_checkable
class Portable(Protocol):
    """A scorer that can prepare in other processes."""

    def preparer(self) -> Preparer | None:
        """What `prepare` does, to be pickled: without weights, and importing no torch there. None when it cannot be."""
        ...


@runtime_checkable
class Launching(Protocol):
    """A scorer that need not wait for a GPU to tell it the next batch."""

    def launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        """The first half of `score`, in one thread at a time: queue a batch. What it returns waits for the columns,
        in any thread."""
        ...


@runtime_checkable
class Remote(Protocol):
    """A scorer whose model may run in a server."""

    def check_server(self) -> None:
        """Quick. Raises `VlfilterError` when the server does not answer or serves another model."""
        ...


def scorer_names() -> list[str]:
    return sorted(point.name for point in entry_points(group=GROUP))


def scorer_class(name: str) -> type[Scorer]:
    """The scorer class of an entry point name (`unifilter`) or of an import path (`package.module:Class`)."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found: Any = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise VlfilterError(f"scorer {name!r} cannot be imported: {error}") from error
        missing = [
            part for part in ("name", "columns", "fingerprint", "load", "prepare", "score") if not hasattr(found, part)
        ]
        if missing or not isinstance(found, type):
            raise VlfilterError(f"{name} is no scorer class: it lacks {', '.join(missing) or 'a constructor'}.")
        return found
    for point in entry_points(group=GROUP, name=name):
        loaded: type[Scorer] = point.load()
        return loaded
    known = ", ".join(scorer_names())
    raise VlfilterError(f"no scorer is called {name!r}. Known: {known}. Your own: package.module:Class.")


def make_scorer(name: str, settings: ScorerSettings) -> Scorer:
    """A scorer, not yet loaded."""
    return scorer_class(name)(settings)  # type: ignore[call-arg]
