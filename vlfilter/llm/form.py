"""The part of a step's form that says where a judge or teacher is asked, and within which limits."""

from __future__ import annotations

from pydantic import Field

from vlfilter.data.storage import join
from vlfilter.forms import Step
from vlfilter.llm.client import JudgeSettings
from vlfilter.llm.jobs import JobStore


class AskStep(Step):
    """A step that asks a language model. The subclass has the field that names it."""

    base_url: str | None = Field(default=None, description="A server that speaks that API, e.g. vLLM's.")
    max_usd: float | None = Field(default=None, ge=0, description="Hard limit on all that this run's ledger records.")
    cache: str | None = Field(
        default=None, description="Where answers are kept (folder or s3://), so that none is paid twice; empty: output."
    )
    requests_per_minute: int | None = Field(default=None, ge=1, description="Of this worker alone; empty: no limit.")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="Of this worker alone; empty: no limit.")
    concurrency: int = Field(default=16, ge=1, le=1000, description="Requests under way at a time.")
    batch: bool = Field(default=False, description="Through the vendor's batch endpoint, at half price, within a day.")
    timeout_s: float = Field(default=120, gt=0, description="Seconds for one attempt.")
    input_usd_per_million: float | None = Field(default=None, ge=0, description="For a model of unknown price.")
    output_usd_per_million: float | None = Field(default=None, ge=0, description="For a model of unknown price.")

    def name_of(self, model: str) -> str:
        """Who answers, for fingerprints: a server of one's own may serve another model by the same name."""
        return model if self.base_url is None else f"{model} at {self.base_url}"

    def asking(self, model: str, output: str) -> JudgeSettings:
        """Answers and ledger lie in `output`/answers unless `cache` says otherwise."""
        return JudgeSettings(
            model=model,
            base_url=self.base_url,
            cache=self.cache or join(output, "answers"),
            max_usd=self.max_usd,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            batch=self.batch,
            input_usd_per_million=self.input_usd_per_million,
            output_usd_per_million=self.output_usd_per_million,
        )


class PollParams(Step):
    """Where batch jobs of vendors are written down, so that their answers can be fetched when they are there."""

    cache: str = Field(
        description="The folder or s3:// prefix that the judge keeps answers in; `answers` below a method's output.",
        examples=["s3://bucket/mlm-filter/answers"],
        min_length=1,
    )
    base_url: str | None = Field(default=None, description="A server that speaks the vendor's API; empty: the vendor.")

    def judges(self) -> list[JudgeSettings]:
        """One for each vendor and model that has jobs here."""
        names = sorted({f"{job.vendor}:{job.model}" for job in JobStore(self.cache).everyones()})
        # The budget was checked when the jobs were handed in; no price is needed to fetch what is paid.
        return [JudgeSettings(name, self.base_url, self.cache, batch=True) for name in names]
