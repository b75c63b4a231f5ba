"""All score tables below one place, read as if they were one: shard by shard, several scorers' columns together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import pyarrow as pa

from vlfilter.data.storage import is_local
from vlfilter.data.tables import FOOTER_KEY, Footer, list_scorers, list_tables, open_parquet, read_footer, table_url
from vlfilter.errors import VlfilterError

SHARED = ("key", "uid")

T = TypeVar("T")


@dataclass(frozen=True)
class Scores:
    """The tables of some scorers over the same shards.

    Columns are named `column` where only one scorer has it, and always also `scorer.column`; all share `key` and `uid`.
    `shards` holds every name that any scorer has a table for, `tables` those of each scorer.
    """

    url: str
    shards: tuple[str, ...]
    schemas: dict[str, pa.Schema]
    tables: dict[str, frozenset[str]]
    fingerprints: dict[str, str] | None = None

    @classmethod
    def open(cls, url: str) -> Scores:
        """Raises `VlfilterError` when there are no tables. That they are complete is checked by `require`."""
        scorers = list_scorers(url)
        if not scorers:
            raise VlfilterError(f"no score tables below {url}: run `vlfilter score --output {url}` first.")
        tables = {scorer: frozenset(list_tables(url, scorer)) for scorer in scorers}
        schemas = {scorer: _schema(table_url(url, scorer, min(names))) for scorer, names in tables.items()}
        return cls(url, tuple(sorted(frozenset[str]().union(*tables.values()))), schemas, tables)

    def uniform(self) -> Scores:
        """The same, but reading a table that other weights or settings made than the rest raises `VlfilterError`."""
        made = {scorer: self.footer(min(shards), scorer).fingerprint for scorer, shards in self.tables.items()}
        return replace(self, fingerprints=made)

    def of(self, *scorers: str) -> Scores:
        """The same place, seen as if it held these scorers only."""
        tables = {scorer: self.tables[scorer] for scorer in scorers}
        shards = tuple(sorted(frozenset[str]().union(*tables.values())))
        return Scores(self.url, shards, {scorer: self.schemas[scorer] for scorer in scorers}, tables)

    def resolve(self, column: str) -> tuple[str, str]:
        """(scorer, column) of a column's name. Raises `VlfilterError` for an unknown or an ambiguous one."""
        if column in SHARED:
            return max(self.schemas, key=lambda scorer: len(self.tables[scorer])), column
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

    def column_type(self, column: str) -> pa.DataType:
        scorer, name = self.resolve(column)
        return self.schemas[scorer].field(name).type

    def scorers(self, columns: Iterable[str]) -> list[str]:
        """The scorers that the columns belong to; `key` and `uid` count for none unless they stand alone."""
        columns = list(columns)
        own = [column for column in columns if column not in SHARED] or columns
        return list(dict.fromkeys(self.resolve(column)[0] for column in own))

    def require(self, columns: Iterable[str]) -> None:
        """Raises `VlfilterError` when a scorer that these columns need lacks the table of a shard."""
        for scorer in self.scorers(columns):
            if missing := sorted(set(self.shards) - self.tables[scorer]):
                raise VlfilterError(
                    f"{len(missing)} of {len(self.shards)} shards have no {scorer} table ({', '.join(missing[:3])}"
                    f"{', …' if len(missing) > 3 else ''}): run `vlfilter score --scorer {scorer}` over them first."
                )

    def footer(self, shard: str, scorer: str | None = None) -> Footer:
        return read_footer(table_url(self.url, scorer or next(iter(self.schemas)), shard))

    def read(self, shard: str, columns: Iterable[str]) -> pa.Table:
        """The given columns of one shard, rows in tar order, under the names they were asked for.

        Raises `VlfilterError` for a damaged table, or when the scorers' tables come from different versions of the tar:
        rows are joined by position, which holds only for tables of the same tar.
        """
        columns = list(dict.fromkeys(columns))
        if all(column in SHARED for column in columns):  # any scorer's table will do
            scorers = [next(scorer for scorer, shards in self.tables.items() if shard in shards)]
        else:
            scorers = self.scorers(columns)
        wanted: dict[str, dict[str, str]] = {scorer: {} for scorer in scorers}
        for column in columns:
            scorer, name = (scorers[0], column) if column in SHARED else self.resolve(column)
            wanted[scorer][column] = name
        arrays: dict[str, pa.ChunkedArray] = {}
        made_from: Footer | None = None
        for scorer, names in wanted.items():
            url = table_url(self.url, scorer, shard)
            table, footer = _read(url, sorted(set(names.values())))
            if made_from and footer.shard != made_from.shard:
                raise VlfilterError(
                    f"shard {shard}: {made_from.scorer} and {scorer} scored different versions of the tar; "
                    "run `vlfilter score` again with both."
                )
            made_from = footer
            if self.fingerprints and footer.fingerprint != self.fingerprints[scorer]:
                raise VlfilterError(
                    f"the {scorer} tables of {shard} and {min(self.tables[scorer])} come from different models or "
                    "settings, so their scores cannot be compared: run `vlfilter score` again."
                )
            arrays |= {alias: table[name] for alias, name in names.items()}
        return pa.table({column: arrays[column] for column in columns})

    def map(
        self, columns: Iterable[str], function: Callable[[str, pa.Table], T], threads: int | None = None
    ) -> Iterator[T]:
        """`function(shard, table)` of every shard, in order of name.

        Shards are read and the function is run in a few threads, some shards ahead of the consumer; what lies in memory
        does not grow with the number of shards.
        """
        columns = list(dict.fromkeys(columns))
        threads = threads or (2 if is_local(self.url) else 16)  # object stores: waiting, not work
        with ThreadPoolExecutor(threads) as pool:
            names = iter(self.shards)

            def submit(name: str) -> Future[T]:
                return pool.submit(lambda: function(name, self.read(name, columns)))

            pending = deque(submit(name) for name in islice(names, 2 * threads))
            try:
                while pending:
                    done = pending.popleft().result()
                    pending.extend(submit(name) for name in islice(names, 1))
                    yield done
            finally:
                for future in pending:
                    future.cancel()

    def stream(self, columns: Iterable[str], threads: int | None = None) -> Iterator[tuple[str, pa.Table]]:
        """(shard, table) of every shard in order of name."""
        return self.map(columns, lambda shard, table: (shard, table), threads)


def _schema(url: str) -> pa.Schema:
    try:
        schema: pa.Schema = open_parquet(url).schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise VlfilterError(f"{url} is damaged ({error}): `vlfilter score` makes it anew.") from error
    return schema


def _read(url: str, columns: list[str]) -> tuple[pa.Table, Footer]:
    try:
        with open_parquet(url) as file:
            footer = Footer.from_json((file.metadata.metadata or {})[FOOTER_KEY])
            if missing := set(columns) - set(file.schema_arrow.names):
                raise VlfilterError(
                    f"{url} has no column {', '.join(sorted(missing))}: `vlfilter score` makes it anew."
                )
            # One thread: shards are read beside each other already.
            return file.read(columns=columns, use_threads=False), footer
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise VlfilterError(
            f"{url} cannot be read ({type(error).__name__}: {error}); see `vlfilter status`."
        ) from error
