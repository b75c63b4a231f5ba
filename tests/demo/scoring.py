"""The score step of the demo without Prefect: the same plan, runners and engine that the flow's tasks call."""

from __future__ import annotations

from vlfilter.demo.layout import METRICS, OPTIONS, Layout
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run


def score(layout: Layout) -> None:
    params = ScoreParams(
        shards=str(layout.shards), output=str(layout.scores), scorer=list(METRICS), model=layout.models, options=OPTIONS
    )
    for work in plan_run(params).work:
        score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings(workers=2))
