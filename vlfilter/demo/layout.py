"""Where the demo keeps what, and the names it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KEEP = "50%"  # of the samples with a score, for every scorer: a rate one might choose without knowing the truth
# scorer → the column it is judged by
METRICS = {"clip_score": "clip_score", "unifilter": "quality_score", "mlm_filter": "image_text_matching_score"}
OPTIONS = {"mlm_filter": {"metric": "image_text_matching"}}  # the one that the demo's grades are about
FOLDERS = {"clip_score": "clip", "mlm_filter": "mlm_filter/run/model"}  # below `models`, where not the scorer's name


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one demo. Nothing else may live in the parts that `parts` names."""

    output: Path

    parts = (
        "shards",
        "test",
        "models",
        "scores",
        "subsets",
        "kept",
        "truth.parquet",
        "demo.json",
        "demo.md",
        "report.html",
    )

    @property
    def settings(self) -> Path:
        """What the demo was made with; written first, so it also says that the folder is a demo's."""
        return self.output / "demo-settings.json"

    @property
    def ready(self) -> Path:
        """Written last by `prepare`."""
        return self.output / "models" / "ready"

    @property
    def shards(self) -> Path:
        return self.output / "shards"

    @property
    def test(self) -> Path:
        return self.output / "test"

    @property
    def truth(self) -> Path:
        return self.output / "truth.parquet"

    @property
    def scores(self) -> Path:
        return self.output / "scores"

    @property
    def kept(self) -> Path:
        """New shards, resharded from UniFilter's subset."""
        return self.output / "kept"

    @property
    def report(self) -> Path:
        return self.output / "report.html"

    def model(self, scorer: str) -> Path:
        return self.output / "models" / FOLDERS.get(scorer, scorer)

    @property
    def models(self) -> dict[str, str]:
        """The trained checkpoint of each scorer."""
        return {scorer: str(self.model(scorer)) for scorer in METRICS}

    def subset(self, scorer: str) -> Path:
        return self.output / "subsets" / f"{scorer}.parquet"
