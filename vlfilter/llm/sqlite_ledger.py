"""The ledger of one machine's processes: an SQLite file, each change one transaction."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from vlfilter.errors import StorageError, VlfilterError
from vlfilter.llm.ledger import BudgetExceededError, Charge, Spent
from vlfilter.llm.prices import NANO
from vlfilter.llm.types import Usage

WAIT_S = 60.0  # for other processes' transactions, each a few milliseconds
_TABLES = """
CREATE TABLE IF NOT EXISTS spent (
    model TEXT, labels TEXT, batch INTEGER, requests INTEGER, input INTEGER, output INTEGER, cached INTEGER,
    written INTEGER, nano INTEGER, PRIMARY KEY (model, labels, batch));
CREATE TABLE IF NOT EXISTS reserved (ticket TEXT PRIMARY KEY, nano INTEGER, model TEXT, labels TEXT, since REAL);
"""
_ADD = """
INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (model, labels, batch) DO UPDATE SET
    requests = requests + excluded.requests, input = input + excluded.input, output = output + excluded.output,
    cached = cached + excluded.cached, written = written + excluded.written, nano = nano + excluded.nano
"""


class SqliteLedger:
    """`path` is a file on a local disk (network file systems lock badly), or ":memory:" for this process alone."""

    def __init__(self, path: str):
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def reserve(self, nano: int, limit: int | None, labels: Mapping[str, str], model: str, ticket: str = "") -> str:
        ticket = ticket or uuid.uuid4().hex
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM reserved WHERE ticket = ?", (ticket,)).fetchone():
                return ticket
            if limit is not None:
                spent = db.execute("SELECT COALESCE(SUM(nano), 0) FROM spent").fetchone()[0]
                held = db.execute("SELECT COALESCE(SUM(nano), 0) FROM reserved").fetchone()[0]
                if spent + held + nano > limit:
                    raise BudgetExceededError(spent, held, limit, nano, self.path)
            row = (ticket, nano, model, _text(labels), time.time())
            db.execute("INSERT INTO reserved VALUES (?, ?, ?, ?, ?)", row)
        return ticket

    def settle(self, ticket: str, charges: Sequence[Charge]) -> bool:
        with self._transaction() as db:
            if not db.execute("DELETE FROM reserved WHERE ticket = ?", (ticket,)).rowcount:
                return False
            for charge in charges:
                usage = charge.usage
                tokens = (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_tokens)
                row = (charge.model, _text(charge.labels), charge.batch, charge.requests, *tokens, charge.nano)
                db.execute(_ADD, row)
        return True

    def spending(self) -> list[Spent]:
        with self._transaction() as db:
            spent = db.execute("SELECT * FROM spent ORDER BY model, labels, batch").fetchall()
            held = db.execute("SELECT model, labels, SUM(nano) FROM reserved GROUP BY model, labels").fetchall()
        lines = [
            Spent(model, json.loads(labels), bool(batch), requests, Usage(*tokens), nano / NANO)
            for model, labels, batch, requests, *tokens, nano in spent
        ]
        return lines + [Spent(model, json.loads(labels), reserved_usd=nano / NANO) for model, labels, nano in held]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._open()
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.rollback()
                    raise
                db.commit()
            except sqlite3.DatabaseError as error:
                raise StorageError(f"the judge's ledger {self.path} cannot be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():  # a connection must not cross a fork
            try:
                if self.path != ":memory:":
                    os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
                db = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
                db.executescript(_TABLES)
            except (OSError, sqlite3.Error) as error:
                raise VlfilterError(f"the judge's ledger {self.path} cannot be opened: {error}") from error
            self._connection, self._pid = db, os.getpid()
        return self._connection


def _text(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True)
