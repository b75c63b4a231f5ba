"""Runs the scoring flow in this process, against the server in PREFECT_API_URL. Takes `ScoreParams` as JSON."""

from __future__ import annotations

import sys

from vlfilter.cli.prefect import quiet_prefect
from vlfilter.scoring.params import ScoreParams


def main() -> None:
    quiet_prefect()
    from flows.score_shards import score_shards

    state = score_shards(ScoreParams.model_validate_json(sys.argv[1]), return_state=True)
    print(state.type.value, state.message)
    if not state.is_completed():
        sys.exit(1)


if __name__ == "__main__":
    main()
