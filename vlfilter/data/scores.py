"""All score tables below one place, read as if they were one: shard by shard, columns of several scorers side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from vlfilter.data.tables import Footer, list_scorers, list_tables, open_parquet, read_footer, table_url
from vlfilter.errors import VlfilterError

SHARED = ("key", "uid")


@dataclass(frozen=True)
class Scores:
    """The tables of some scorers over the same shards.

    Columns are named `column` where only one scorer has it, and always also `scorer.column`; `key` and `uid` are shared.
    """

    url: str
    shards: tuple[str, ...]
    schemas: dict[str, pa.Schema]

    @classmethod
    def open(cls, url: str) -> Scores:
        """Raises `VlfilterError` when there are no tables, or when the scorers cover different shards."""
        scorers = list_scorers(url)
        if not scorers:
            raise VlfilterError(f"no score tables below {url}: run `vlfilter score --output {url}` first.")
        names = {scorer: list_tables(url, scorer) for scorer in scorers}
        union = set[str]().union(*names.values())
        for scorer, have in names.items():
            if missing := sorted(union - have):
                raise VlfilterError(
                    f"{len(missing)} of {len(union)} shards have no {scorer} table ({', '.join(missing[:3])} …): "
                    f"run `vlfilter score` with --scorer {scorer} over them, or remove {url}/{scorer}."
                )
        first = min(union)
        schemas = {scorer: open_parquet(table_url(url, scorer, first)).schema_arrow for scorer in scorers}
        return cls(url, tuple(sorted(union)), schemas)

    def resolve(self, column: str) -> tuple[str, str]:
        """(scorer, column) of a column's name. Raises `VlfilterError` for an unknown or an ambiguous one."""
        if column in SHARED:
            return next(iter(self.schemas)), column
        scorer, dot, name = column.rpartition(".")
        owners = [s for s, schema in self.schemas.items() if name in schema.names and (not dot or s == scorer)]
        if not owners:
            raise VlfilterError(f"no column {column!r} in {self.url}. There are: {', '.join(self.columns())}.")
        if len(owners) > 1:
            choices = " or ".join(f"{s}.{name}" for s in owners)
            raise VlfilterError(f"column {column!r} is ambiguous: write {choices}.")
        return owners[0], name

    def columns(self) -> list[str]:
        """Every scorer's own columns, by their short name where it is unique."""
        own = [(s, n) for s, schema in self.schemas.items() for n in schema.names if n not in SHARED]
        times = {name: sum(other == name for _, other in own) for _, name in own}
        return [name if times[name] == 1 else f"{scorer}.{name}" for scorer, name in own]

    def footer(self, shard: str, scorer: str | None = None) -> Footer:
        return read_footer(table_url(self.url, scorer or next(iter(self.schemas)), shard))

    def read(self, shard: str, columns: Iterable[str]) -> pa.Table:
        """The given columns of one shard, rows in tar order, under the names they were asked for."""
        wanted: dict[str, dict[str, str]] = {}
        for column in columns:
            scorer, name = self.resolve(column)
            wanted.setdefault(scorer, {})[column] = name
        arrays: dict[str, pa.ChunkedArray] = {}
        made_from: Footer | None = None
        for scorer, names in wanted.items():
            file = open_parquet(table_url(self.url, scorer, shard))
            if len(wanted) > 1:  # rows are joined by position, which holds only for tables of the same tar
                footer = self.footer(shard, scorer)
                if made_from and footer.shard != made_from.shard:
                    raise VlfilterError(
                        f"shard {shard}: {made_from.scorer} and {scorer} scored different versions of the tar; score again."
                    )
                made_from = footer
            table = file.read(columns=sorted(set(names.values())))
            arrays |= {alias: table[name] for alias, name in names.items()}
        return pa.table({column: arrays[column] for column in columns})

    def stream(self, columns: Iterable[str], threads: int = 4) -> Iterator[tuple[str, pa.Table]]:
        """(shard, table) of every shard in order of name, a few shards read ahead, the rest never in memory."""
        columns = list(dict.fromkeys(columns))
        with ThreadPoolExecutor(threads) as pool:
            names = iter(self.shards)
            pending = [(name, pool.submit(self.read, name, columns)) for name in islice(names, 2 * threads)]
            while pending:
                name, future = pending.pop(0)
                for following in islice(names, 1):
                    pending.append((following, pool.submit(self.read, following, columns)))
                yield name, future.result()
