"""Where the tables come from, summed up over their footers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vlfilter.data.scores import Scores
from vlfilter.data.tables import Footer

MAX_WARNINGS = 20
MAX_PART = 300


@dataclass(frozen=True)
class Version:
    """One fingerprint of a scorer: on how many shards, with its parts in clear (shortened)."""

    fingerprint: str
    shards: int
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Provenance:
    """A scorer's tables: more than one version means that scores of different shards cannot be compared."""

    scorer: str
    versions: tuple[Version, ...]
    vlfilter: tuple[str, ...]
    seconds: float
    bytes: int
    first: str
    last: str
    warnings: tuple[tuple[str, str], ...]
    more_warnings: int


def read_footers(scores: Scores, threads: int = 16) -> dict[str, dict[str, Footer]]:
    """Every table's footer, by scorer, then shard."""
    with ThreadPoolExecutor(threads) as pool:
        return {
            scorer: dict(zip(names, pool.map(lambda name, s=scorer: scores.footer(name, s), names), strict=True))
            for scorer, names in ((scorer, sorted(shards)) for scorer, shards in scores.tables.items())
        }


def sum_up(scorer: str, footers: Mapping[str, Footer]) -> Provenance:
    """The provenance of one scorer's tables (at least one)."""
    times = Counter(footer.fingerprint for footer in footers.values())
    example = {footer.fingerprint: footer for footer in footers.values()}
    versions = tuple(
        Version(print_, count, tuple((name, _text(part)) for name, part in sorted(example[print_].parts.items())))
        for print_, count in times.most_common()
    )
    urls = sorted(footer.shard.url for footer in footers.values())
    warnings = [(name, warning) for name, footer in sorted(footers.items()) for warning in footer.warnings]
    return Provenance(
        scorer,
        versions,
        tuple(sorted({footer.version for footer in footers.values()})),
        sum(footer.seconds for footer in footers.values()),
        sum(footer.shard.size for footer in footers.values()),
        urls[0],
        urls[-1],
        tuple(warnings[:MAX_WARNINGS]),
        max(0, len(warnings) - MAX_WARNINGS),
    )


def _text(part: object) -> str:
    text = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= MAX_PART else f"{text[:MAX_PART]}… ({len(text)} characters)"
