"""What a run learns: the answers of conversations, weighed or not, or the levels of quality rows.

Everything that differs is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from vlfilter.data.annotations import read_instructions
from vlfilter.data.quality_rows import QualityRow, read_quality_rows, require_levels
from vlfilter.training.data_check import DataReport, check_data, check_rows, refuse_bad
from vlfilter.training.quality_data import QualityEncoder
from vlfilter.training.settings import TrainSettings
from vlfilter.training.start import Start, make_encoder
from vlfilter.training.weighted_data import NumberedRow, read_numbered, without_features

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from vlfilter.data.features import Features
    from vlfilter.models.vlm import VisionLanguageModel
    from vlfilter.training.conversation_data import ConversationEncoder
    from vlfilter.training.quality_dataset import QualityDataset
    from vlfilter.training.weighted import WeightedVlm
    from vlfilter.training.weighted_dataset import WeightedDataset


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of rows after every row was looked at; `unreadable` tells of rows that are none."""

    report: DataReport
    unreadable: tuple[str, ...]

    @property
    def rows(self) -> int:
        return self.report.rows + len(self.unreadable)

    @property
    def skipped(self) -> int:
        return len(self.report.bad) + len(self.unreadable)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CheckedFile:
        return cls(DataReport.from_json(value["report"]), tuple(value["unreadable"]))


class Objective(Protocol):
    """`check` looks at every row of a file (the settings' `data` or `validation`); what comes after takes its rows."""

    def check(self, url: str) -> CheckedFile: ...

    def require(self, url: str, checked: CheckedFile) -> None:
        """Raises `VlfilterError` where the usable rows are not enough to train on."""
        ...

    def dataset(self, url: str, report: DataReport) -> Dataset[Any]: ...

    def model(self, vlm: VisionLanguageModel) -> nn.Module: ...

    @property
    def collate(self) -> Callable[[Sequence[Any]], dict[str, Any]]: ...


def make_objective(settings: TrainSettings, start: Start, image_tokens: int) -> Objective:
    """For the model of `start`, whose images take `image_tokens` positions. Raises as `make_encoder`."""
    if settings.objective == "classifier":
        return Levels(settings, start, image_tokens)
    if settings.objective == "self_filter":
        return WeightedConversations(settings, start, image_tokens)
    return Conversations(settings, start, image_tokens)


@dataclass(frozen=True)
class Conversations:
    settings: TrainSettings
    start: Start
    image_tokens: int

    @cached_property
    def encoder(self) -> Any:
        return make_encoder(self.start, self.settings, self.image_tokens)

    def check(self, url: str) -> CheckedFile:
        rows, unreadable = read_instructions(url)
        return CheckedFile(check_data(rows, self.settings.image_root, self.encoder), tuple(unreadable))

    def require(self, url: str, checked: CheckedFile) -> None:
        refuse_bad(checked.report, checked.unreadable, self.settings.bad_rows, url)

    def dataset(self, url: str, report: DataReport) -> Dataset[Any]:
        from vlfilter.training.dataset import ConversationDataset

        rows, _ = read_instructions(url)
        used = [rows[place] for place in report.used]
        return ConversationDataset(used, self.settings.image_root, self.encoder, self.start.images)

    def model(self, vlm: VisionLanguageModel) -> nn.Module:
        from vlfilter.training.causal import CausalVlm

        return CausalVlm(vlm)

    @property
    def collate(self) -> Callable[[Sequence[Any]], dict[str, Any]]:
        from vlfilter.training.dataset import collate

        return collate


@dataclass(frozen=True)
class Levels:
    settings: TrainSettings
    start: Start
    image_tokens: int

    @cached_property
    def encoder(self) -> QualityEncoder:
        return QualityEncoder(self.start.tokenizer, self.image_tokens, self.settings.max_length)

    def check(self, url: str) -> CheckedFile:
        rows, unreadable = read_quality_rows(url)

        def measure(row: QualityRow) -> tuple[int, int]:
            return self.encoder.encode(row).length, 1

        report = check_rows(rows, self.settings.image_root, lambda row: row.images, measure)
        return CheckedFile(report, tuple(unreadable))

    def require(self, url: str, checked: CheckedFile) -> None:
        refuse_bad(checked.report, checked.unreadable, self.settings.bad_rows, url)
        if url == self.settings.data:
            rows, _ = read_quality_rows(url)
            require_levels([rows[place] for place in checked.report.used], url)

    def dataset(self, url: str, report: DataReport) -> QualityDataset:
        from vlfilter.training.quality_dataset import QualityDataset

        rows, _ = read_quality_rows(url)
        used = [rows[place] for place in report.used]
        return QualityDataset(used, self.settings.image_root, self.encoder, self.start.images)

    def model(self, vlm: VisionLanguageModel) -> nn.Module:
        from vlfilter.training.classifier import LevelVlm

        return LevelVlm(vlm)

    @property
    def collate(self) -> Callable[[Sequence[Any]], dict[str, Any]]:
        from vlfilter.training.quality_dataset import collate

        return collate


@dataclass(frozen=True)
class WeightedConversations:
    """Self-Filter's stage 1: rows have features as well, and a score net weighs them."""

    settings: TrainSettings
    start: Start
    image_tokens: int

    @cached_property
    def encoder(self) -> ConversationEncoder:
        return make_encoder(self.start, self.settings, self.image_tokens)

    @cached_property
    def features(self) -> Features:
        from vlfilter.data.features import open_features

        return open_features(str(self.settings.features), work=self.settings.output)

    def check(self, url: str) -> CheckedFile:
        rows, unreadable = read_numbered(url)
        lacking = without_features(rows, self.features)

        def measure(row: NumberedRow) -> tuple[int, int]:
            if row.unique_idx in lacking:
                raise ValueError(f"number {row.unique_idx} has no features: {lacking[row.unique_idx]}")
            return self.encoder.measure(row.instruction)

        report = check_rows(rows, self.settings.image_root, lambda row: row.images, measure)
        return CheckedFile(report, tuple(unreadable))

    def require(self, url: str, checked: CheckedFile) -> None:
        refuse_bad(checked.report, checked.unreadable, self.settings.bad_rows, url)

    def dataset(self, url: str, report: DataReport) -> WeightedDataset:
        from vlfilter.training.weighted_dataset import WeightedDataset

        rows, _ = read_numbered(url)
        used = [rows[place] for place in report.used]
        return WeightedDataset(used, self.settings.image_root, self.encoder, self.start.images, self.features)

    def model(self, vlm: VisionLanguageModel) -> WeightedVlm:
        """`score_dtype` must have been settled."""
        import torch

        from vlfilter.training.score_net import ScoreNet
        from vlfilter.training.weighted import WeightedVlm

        computed = torch.bfloat16 if self.settings.score_dtype == "bfloat16" else torch.float32
        net = ScoreNet(self.features.dim, self.settings.seed, computed)
        return WeightedVlm(vlm, net, self.settings.sample_loss, self.settings.softmax_scope)

    @property
    def collate(self) -> Callable[[Sequence[Any]], dict[str, Any]]:
        from vlfilter.training.weighted_dataset import collate

        return collate
