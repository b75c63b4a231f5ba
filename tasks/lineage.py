"""Where data comes from, as Prefect's assets: shards and model → score tables → subset.

One event a run and table set or subset, none a shard: what a shard's table was made of is in its footer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.types.names import MAX_ASSET_KEY_LENGTH, RESTRICTED_ASSET_CHARACTERS

from tasks.artifacts import tolerant
from vlfilter.data.storage import absolute, is_local, join
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.status import ScorerStatus

_PATTERN = re.compile(r"[*?\[{]")
_FORBIDDEN = re.compile("[" + "".join(map(re.escape, RESTRICTED_ASSET_CHARACTERS)) + "]")


def record_tables(params: ScoreParams, statuses: Sequence[ScorerStatus]) -> None:
    """The score tables of each scorer, made of the shards and of its model."""
    shards = params.shards if isinstance(params.shards, str) else params.shards[0]
    for given, status in zip(params.scorer, statuses, strict=True):
        rows = status.rows()
        if not rows:
            continue
        made_of = [asset_key(shards), *([model_key(params.model[given])] if given in params.model else [])]
        metadata = {"shards": status.counts["done"], "open": len(status.open()), "samples": rows}
        record(join(params.output, status.scorer), f"{status.scorer} tables", made_of, metadata)


def record_subset(place: str, scores: str, kept: int, rows: int, rule: str) -> None:
    """A subset, made of score tables."""
    record(place, "subset", [asset_key(scores)], {"kept": kept, "rows": rows, "rule": rule})


@tolerant
def record(place: str, name: str, made_of: Sequence[str], metadata: Mapping[str, object]) -> None:
    """Tell the server that `place` was made of the assets with these keys."""
    key = asset_key(place)
    asset = Asset(key=key, properties=AssetProperties(name=name, url=place if "://" in place else None))

    @materialize(
        asset,
        by="vlfilter",
        asset_deps=list(made_of),
        name="record",
        task_run_name=f"record {name}",
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def remember() -> None:
        add_asset_metadata(asset, dict(metadata))

    remember()


def asset_key(place: str) -> str:
    """A path or URL as the URI of an asset; of a pattern, the folder that it begins with."""
    found = _PATTERN.search(place)
    if found:
        place = place[: place.rfind("/", 0, found.start()) + 1] or "."
    url = f"file://{absolute(place)}" if is_local(place) else place
    return _FORBIDDEN.sub("_", url).rstrip("/")[:MAX_ASSET_KEY_LENGTH]


def model_key(model: str) -> str:
    """A checkpoint's folder, or a name on the hub."""
    here = "://" in model or Path(model).expanduser().exists()
    return asset_key(model if here else f"hf://{model}")
