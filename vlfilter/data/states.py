"""Which shards are done: the tables that exist, compared with what would be computed now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from vlfilter.data.footers import read_footers, write_footers
from vlfilter.data.shards import Shard
from vlfilter.data.tables import FORMAT, Footer, digest, list_tables, read_footer, table_url
from vlfilter.errors import StorageError, VlfilterError

FEW = 256  # tables that are sooner opened than listed: a group of shards
THREADS = 16  # that open tables
NOBODY: Mapping[str, str] = MappingProxyType({})


class State(StrEnum):
    DONE = "done"
    STALE = "stale"
    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class TableState:
    """What lies in a table's place, and why it does not count as done when it does not."""

    shard: Shard
    scorer: str
    state: State
    why: str = ""
    footer: Footer | None = field(default=None, repr=False)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return ", ".join(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))


def table_state(
    output: str, scorer: str, shard: Shard, parts: Mapping[str, Any], fingerprint: str, again: str | None = None
) -> TableState:
    """Compare the table in the shard's place with what would be computed now. A table made at the moment `again` is
    stale whatever it holds."""
    try:
        footer = read_footer(table_url(output, scorer, shard.name))
    except FileNotFoundError:
        return TableState(shard, scorer, State.MISSING)
    except StorageError:  # it may be whole: to score it again would be wrong
        raise
    except VlfilterError as error:
        return TableState(shard, scorer, State.DAMAGED, str(error))
    return compare(footer, scorer, shard, parts, fingerprint, again)


def compare(
    footer: Footer, scorer: str, shard: Shard, parts: Mapping[str, Any], fingerprint: str, again: str | None
) -> TableState:
    """What a table's footer says of it, as `table_state`."""
    why = ""
    if footer.format != FORMAT:
        why = f"table format {footer.format}, now {FORMAT}"
    elif footer.shard.url != shard.url:
        why = f"made from {footer.shard.url}"
    elif footer.shard != shard:
        why = "the tar has changed"
    elif footer.fingerprint != fingerprint:
        why = f"the scorer has changed: {_differences(footer.parts, parts)}"
    elif footer.made == again:
        why = "asked to be made again"
    if why:
        return TableState(shard, scorer, State.STALE, why, footer)
    # One copy of what all tables of a run have in common: with 100,000 of them the rest is small.
    return TableState(shard, scorer, State.DONE, "", replace(footer, shard=shard, parts=parts))


def table_states(
    output: str,
    scorer: str,
    shards: Sequence[Shard],
    parts: Mapping[str, Any],
    again: Mapping[str, str] = NOBODY,
    *,
    keep: bool = False,
) -> list[TableState]:
    """`table_state` for many shards; `again` holds shards by name. For a few, each table is looked at. For many, one
    listing and the kept footers tell of most, and only what is new is opened; with `keep` it is kept for the next."""
    fingerprint = digest(parts)

    def look(shard: Shard) -> TableState:
        return table_state(output, scorer, shard, parts, fingerprint, again.get(shard.name))

    if len(shards) <= FEW:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(look, shards))
    versions = list_tables(output, scorer)
    known = read_footers(output, scorer, versions, shards)
    unknown = [shard for shard in shards if shard.name in versions and shard.name not in known]
    with ThreadPoolExecutor(THREADS) as pool:
        opened = {state.shard.name: state for state in pool.map(look, unknown)}
    fresh = {name: (versions[name], state.footer) for name, state in opened.items() if state.footer}
    if keep and len(fresh) > FEW:
        write_footers(output, scorer, known | fresh)
    del versions
    found = []
    for shard in shards:
        if shard.name in opened:
            found.append(opened.pop(shard.name))
        elif shard.name in known:
            footer = known.pop(shard.name)[1]  # what is compared shares its parts with the others: the rest may go
            found.append(compare(footer, scorer, shard, parts, fingerprint, again.get(shard.name)))
        else:
            found.append(TableState(shard, scorer, State.MISSING))
    return found
