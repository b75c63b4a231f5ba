"""Conversations of several data sets: each is read, checked and reported for itself, and drawn by its ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlfilter.errors import VlfilterError
from vlfilter.training.data_check import DataReport, check_data, refuse_bad
from vlfilter.training.mixture import Mixture, MixtureEntry, read_mixture
from vlfilter.training.mixture_draws import Draws, draw_table
from vlfilter.training.mixture_rows import read_dataset
from vlfilter.training.plan import Plan
from vlfilter.training.settings import TrainSettings
from vlfilter.training.start import Start, make_encoder

if TYPE_CHECKING:
    from torch import nn

    from vlfilter.models.vlm import VisionLanguageModel
    from vlfilter.training.conversation_data import ConversationEncoder
    from vlfilter.training.mixture_dataset import MixtureDataset


@dataclass(frozen=True, slots=True)
class CheckedDataset:
    """A data set after every row was looked at; `unreadable` tells of the rows that are not in `report`, `filtered`
    counts by reason those left out by rule, `not_sampled` those that `sample_num` left aside."""

    report: DataReport
    unreadable: tuple[str, ...]
    filtered: Mapping[str, int]
    not_sampled: int

    @property
    def rows(self) -> int:
        return self.report.rows + len(self.unreadable) + sum(self.filtered.values()) + self.not_sampled

    @property
    def skipped(self) -> int:
        """Rows that were meant to be used and cannot."""
        return len(self.report.bad) + len(self.unreadable)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CheckedDataset:
        report = DataReport.from_json(value["report"])
        return cls(report, tuple(value["unreadable"]), value["filtered"], value["not_sampled"])


@dataclass(frozen=True, slots=True)
class CheckedMixture:
    """All data sets by name, in the mixture's order."""

    datasets: dict[str, CheckedDataset]

    @property
    def rows(self) -> int:
        return sum(checked.rows for checked in self.datasets.values())

    @property
    def skipped(self) -> int:
        return sum(checked.skipped for checked in self.datasets.values())

    def to_json(self) -> dict[str, Any]:
        return {name: asdict(checked) for name, checked in self.datasets.items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CheckedMixture:
        return cls({name: CheckedDataset.from_json(told) for name, told in value.items()})


def check_mixture(mixture: Mixture, seed: int, encoder: ConversationEncoder | None = None) -> CheckedMixture:
    """Read all rows and decode all images of all data sets. Without an encoder lengths are not looked at.

    Raises `VlfilterError` for a file that is missing or of another form.
    """
    seen: dict[str, str | None] = {}
    return CheckedMixture({entry.name: _check(entry, seed, encoder, seen) for entry in mixture.datasets})


def _check(
    entry: MixtureEntry, seed: int, encoder: ConversationEncoder | None, seen: dict[str, str | None]
) -> CheckedDataset:
    """`seen` are the images of the data sets before it, which often are the same."""
    found = read_dataset(entry, seed)
    report = check_data(found.rows, entry.images or "", encoder, seen=seen)
    return CheckedDataset(report, tuple(found.unreadable), dict(found.filtered), found.not_sampled)


@dataclass(frozen=True)
class MixedConversations:
    """What `Conversations` is for one file."""

    settings: TrainSettings
    start: Start
    image_tokens: int

    @cached_property
    def mixture(self) -> Mixture:
        return read_mixture(str(self.settings.mixture))

    @cached_property
    def encoder(self) -> ConversationEncoder:
        return make_encoder(self.start, self.settings, self.image_tokens)

    def check(self, plan: Plan) -> CheckedMixture:
        """Raises `VlfilterError` also for a `batch_size` of a data set that the plan would cut."""
        self._sizes(plan)
        return check_mixture(self.mixture, self.settings.seed, self.encoder)

    def require(self, checked: CheckedMixture) -> None:
        """Raises `VlfilterError` where one data set's usable rows are not enough to train on."""
        for name, found in checked.datasets.items():
            refuse_bad(found.report, found.unreadable, self.settings.bad_rows, f"data set {name}")

    def dataset(self, checked: CheckedMixture, plan: Plan) -> MixtureDataset:
        """All micro-batches of the run."""
        from vlfilter.training.dataset import ConversationDataset
        from vlfilter.training.mixture_dataset import MixtureDataset

        settings, datasets = self.settings, []
        for entry in self.mixture.datasets:
            rows = read_dataset(entry, settings.seed).rows
            used = [rows[place] for place in checked.datasets[entry.name].report.used]
            datasets.append(ConversationDataset(used, entry.images or "", self.encoder, self.start.images))
        counts = [len(dataset) for dataset in datasets]
        ratios = [entry.ratio(count) for entry, count in zip(self.mixture.datasets, counts, strict=True)]
        steps = settings.epochs * int(settings.iters_per_epoch or 0)
        table = draw_table(ratios, settings.seed, steps, settings.draws)
        names = [entry.name for entry in self.mixture.datasets]
        return MixtureDataset(datasets, Draws(table, names, counts, *self._sizes(plan), settings.seed))

    def model(self, vlm: VisionLanguageModel) -> nn.Module:
        from vlfilter.training.causal import CausalVlm

        return CausalVlm(vlm)

    def _sizes(self, plan: Plan) -> tuple[list[int], int]:
        """Samples of a draw of each data set, and into how many micro-batches a draw is cut."""
        whole = self.settings.batch_size // self.settings.draws
        parts = whole // plan.per_device
        own = [entry.name for entry in self.mixture.datasets if entry.batch_size is not None]
        if own and parts > 1:
            raise VlfilterError(
                f"{', '.join(own)}: a batch_size of its own is for draws that one process handles at once. Give "
                f"per_device_batch {whole} (batch_size over draws), or more draws."
            )
        return [entry.batch_size or whole for entry in self.mixture.datasets], parts
