"""What a parent run does before it hands anything out: list, compare, cut into groups, write the plan.

Takes `ScoreParams` as JSON; the last line is what was found and the seconds it took, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import flows.score_shards  # noqa: F401 - the parent holds it and Prefect in memory
from vlfilter.scoring.groups import cut_groups, write_groups
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run


def main() -> None:
    params = ScoreParams.model_validate_json(sys.argv[1])
    started = time.perf_counter()
    plan = plan_run(params)
    todo = [work.shard for work in plan.work]
    groups = cut_groups(todo, params.group_size)
    if groups:
        write_groups(todo, params.group_size, params.output)
    seconds = round(time.perf_counter() - started, 2)
    print(json.dumps({"shards": len(plan.shards), "open": len(todo), "groups": len(groups), "plan_s": seconds}))


if __name__ == "__main__":
    main()
