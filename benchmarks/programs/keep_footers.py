"""Keeps the footers of tables that the listing server only lists, as a run leaves them. Takes `ScoreParams` as JSON."""

from __future__ import annotations

import sys

from vlfilter.data.footers import write_footers
from vlfilter.data.shards import list_shards
from vlfilter.data.tables import Footer, digest, list_tables
from vlfilter.scoring.params import ScoreParams


def main() -> None:
    params = ScoreParams.model_validate_json(sys.argv[1])
    [scorer] = params.scorers()
    parts = scorer.fingerprint()
    versions = list_tables(params.output, scorer.name)
    known = {
        shard.name: (
            versions[shard.name],
            Footer(shard, scorer.name, digest(parts), parts, {"ok": 1000}, 0.1, made="2026-01-01T00:00:00+00:00"),
        )
        for shard in list_shards(params.shards)
    }
    write_footers(params.output, scorer.name, known)


if __name__ == "__main__":
    main()
