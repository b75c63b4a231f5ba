"""What a scoring run is told: one model is the flow's form in the UI, the command line's options and the YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from vlfilter.errors import VlfilterError
from vlfilter.forms import Form
from vlfilter.scoring.base import Remote, Scorer, ScorerSettings, make_scorer, scorer_class


class Dispatch(Form):
    """Where the groups of shards run."""

    mode: Literal["inline", "deployment"] = Field(
        default="inline",
        description="inline: in the run's own process. deployment: as flow runs of their own, which workers take, "
        "one a GPU; without a Prefect server they run inline all the same.",
    )
    deployment: str = Field(
        default="score-shard-group/gpu",
        pattern=r"^[^/]+/[^/]+$",
        description="FLOW/NAME of the deployment that takes groups.",
    )
    in_flight: int = Field(
        default=16, ge=1, le=200, description="Groups handed out at a time; no fewer than there are workers."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=10, description="How often a group is handed out when its run crashes."
    )


class ScoreParams(Form):
    """Score every sample of some shards with one or more scorers."""

    shards: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="Tar shards: a path, a glob, braces, a directory, an s3:// prefix, or a manifest file.",
        examples=["s3://bucket/data/{00000..00099}.tar"],
    )
    output: str = Field(
        description="Where the score tables go: a folder or an s3:// URL.", examples=["s3://bucket/scores"]
    )
    scorer: list[str] = Field(
        description="clip_score, image_reward, mlm_filter, unifilter, or module:Class; each image is read and decoded "
        "once for all of them.",
        min_length=1,
        examples=[["unifilter"]],
    )
    model: dict[str, str] = Field(
        default_factory=dict,
        description="Checkpoint of each scorer: a local folder or a hub name.",
        examples=[{"unifilter": "weizhiwang/UniFilter-Qwen2.5-1.5B"}],
    )
    compat: Literal["original"] | None = Field(
        default=None, description="`original` reproduces the published scripts, their known faults included."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Of the weights; auto is bfloat16 where `device` says cuda, else float32."
    )
    batch_tokens: int = Field(default=8192, ge=1, description="Tokens in a batch, padding and image tokens included.")
    workers: int = Field(default=2, ge=1, le=256, description="How many decode and prepare beside the model.")
    prepare_in: Literal["auto", "threads", "processes"] = Field(
        default="auto",
        description="Where the workers run. auto: processes beside a GPU, else threads. What cannot be sent to a "
        "process prepares in threads.",
    )
    shards_in_flight: int = Field(default=2, ge=1, le=64, description="Shards that one process works on at a time.")
    group_size: int = Field(default=200, ge=1, le=200, description="Shards in one group of tasks.")
    dispatch: Dispatch = Field(default_factory=Dispatch, description="Where the groups of shards run.")
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Further options of a scorer, by its name.",
        examples=[{"unifilter": {"image_mode": "pad"}}],
    )

    @field_validator("output")
    @classmethod
    def _a_place(cls, output: str) -> str:
        if not output.strip() or output.rstrip("/").endswith(":"):
            raise ValueError("give a folder or a URL with a bucket")
        return output

    def settings(self, scorer: str) -> ScorerSettings:
        if scorer not in self.model and getattr(scorer_class(scorer), "needs_model", True):
            raise VlfilterError(f"scorer {scorer!r} needs a model: give --model {scorer}=FOLDER_OR_HUB_NAME.")
        return ScorerSettings(
            model=self.model.get(scorer, ""),
            device=self.device,
            # Told from the parameters alone, so that a laptop and a GPU worker agree on what makes a table stale.
            dtype=self.dtype if self.dtype != "auto" else "bfloat16" if self.device.startswith("cuda") else "float32",
            compat=self.compat,
            options=self.options.get(scorer, {}),
        )

    def scorers(self) -> list[Scorer]:
        """The scorers, checked but not loaded. Raises `VlfilterError` for a wrong name, model or option."""
        if twice := {name for name in self.scorer if self.scorer.count(name) > 1}:
            raise VlfilterError(f"scorer {sorted(twice)[0]!r} is given twice.")
        for given, what in ((self.model, "--model"), (self.options, "--option")):
            if unknown := sorted(set(given) - set(self.scorer)):
                raise VlfilterError(
                    f"{what} names {unknown[0]!r}, which is not among the scorers: {', '.join(self.scorer)}."
                )
        made = [make_scorer(name, self.settings(name)) for name in self.scorer]
        names = [scorer.name for scorer in made]
        if len(set(names)) < len(names):
            raise VlfilterError(f"two scorers would write the same tables: {', '.join(names)}.")
        return made

    def check_servers(self) -> None:
        """Before a run: raises `VlfilterError` when a scorer's server does not answer or has another model."""
        for scorer in self.scorers():
            if isinstance(scorer, Remote):
                scorer.check_server()
