"""A rule: an expression bound to the score tables, its thresholds, and its verdict on each row.

A row is a candidate when every column that the rule uses holds a value (columns that it asks `isnull()` about are its
own affair); only candidates can be kept. What `top()` counts is wider: all rows with a value on its left-hand side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlfilter.data.scores import Scores
from vlfilter.errors import VlfilterError
from vlfilter.selection import evaluate, nodes
from vlfilter.selection.expressions import ExpressionError, parse
from vlfilter.selection.nodes import Node
from vlfilter.selection.top import Rows, Search, Threshold, run_passes

CUT_OPERATORS = {"top": (">=", "<"), "bottom": ("<=", ">")}


@dataclass(frozen=True)
class Rule:
    """`columns`: all that the expression reads; `required`: those that must hold a value; `cuts`: its `top()` tests."""

    text: str
    tree: Node
    columns: tuple[str, ...]
    required: tuple[str, ...]
    cuts: tuple[nodes.Compare, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One shard's rows under a rule, n booleans each."""

    candidates: np.ndarray
    kept: np.ndarray


Thresholds = Mapping[nodes.Compare, Threshold]


def make_rule(scores: Scores, where: str | None = None, top: str | None = None, by: str | None = None) -> Rule:
    """The rule of `--where EXPR`, or of `--top 30% --by COLUMN`. Raises `VlfilterError` for mistakes in it."""
    if where is not None and (top is not None or by is not None):
        raise VlfilterError("give either --where, or --top with --by, not both.")
    if where is None:
        if top is None or by is None:
            raise VlfilterError("say what to keep: --where EXPRESSION, or --top 30% with --by COLUMN.")
        where = f"{nodes.source(nodes.Column(by, 0))} >= top({top.strip()})"
    return bind(where, scores)


def bind(where: str, scores: Scores) -> Rule:
    """Parse an expression and check its columns and their types against the tables."""
    tree = parse(where)
    kind = _kind(tree, where, scores)
    if kind != "condition":
        raise ExpressionError(f"this is a {kind}, not a condition; compare it, as in `x >= 2`:", where, tree.at)
    everything = list(_walk(tree))
    columns = tuple(dict.fromkeys(node.name for node in everything if isinstance(node, nodes.Column)))
    asked = {node.column.name for node in everything if isinstance(node, nodes.IsNull)}
    cuts = [node for node in everything if isinstance(node, nodes.Compare) and isinstance(node.right, nodes.Cut)]
    required = tuple(column for column in columns if column not in asked)
    if not columns:
        raise VlfilterError(f"the expression {where!r} uses no column. There are: {', '.join(scores.columns())}.")
    scores.require(columns)
    return Rule(where, tree, columns, required, tuple(cuts))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in nodes.children(node):
        yield from _walk(child)


def _kind(node: Node, text: str, scores: Scores) -> str:
    """`number`, `text`, `condition` or `cut`. Raises `ExpressionError` where they do not fit together."""

    def expect(child: Node, wanted: str, role: str) -> None:
        if (kind := _kind(child, text, scores)) != wanted:
            raise ExpressionError(f"{role} takes a {wanted}, this is a {kind}:", text, child.at)

    match node:
        case nodes.Number():
            return "number"
        case nodes.Text():
            return "text"
        case nodes.Cut(side):
            return f"{side}()"
        case nodes.Column(name, at):
            return _column_kind(name, at, text, scores)
        case nodes.IsNull(column):
            _column_kind(column.name, column.at, text, scores)
            return "condition"
        case nodes.Negative(operand):
            expect(operand, "number", "-")
            return "number"
        case nodes.Arithmetic(symbol, left, right):
            expect(left, "number", symbol)
            expect(right, "number", symbol)
            return "number"
        case nodes.Not(operand):
            expect(operand, "condition", "not")
            return "condition"
        case nodes.And(parts) | nodes.Or(parts):
            for part in parts:
                expect(part, "condition", "and" if isinstance(node, nodes.And) else "or")
            return "condition"
        case nodes.Compare(symbol, left, nodes.Cut(side), at):
            expect(left, "number", f"the comparison with {side}()")
            if not any(isinstance(part, nodes.Column) for part in _walk(left)):
                raise ExpressionError(f"{side}() needs a column to rank:", text, left.at)
            if symbol not in CUT_OPERATORS[side]:
                inside, outside = CUT_OPERATORS[side]
                raise ExpressionError(f"write `column {inside} {side}(…)`, or {outside} for the rest:", text, at)
            return "condition"
        case nodes.Compare(symbol, left, right, at):
            kinds = _kind(left, text, scores), _kind(right, text, scores)
            if kinds[0] != kinds[1] or kinds[0] not in ("number", "text"):
                raise ExpressionError(f"cannot compare a {kinds[0]} with a {kinds[1]}:", text, at)
            if kinds[0] == "text" and symbol not in ("==", "!="):
                raise ExpressionError("text can only be compared with == and !=:", text, at)
            return "condition"


def _column_kind(name: str, at: int, text: str, scores: Scores) -> str:
    try:
        found = scores.column_type(name)
    except VlfilterError as error:
        raise ExpressionError(f"{error}", text, at) from error
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return "text"
    if is_number(found):
        return "number"
    raise ExpressionError(f"column {name} holds {found}, which is neither a number nor text:", text, at)


def is_number(kind: pa.DataType) -> bool:
    """Whether expressions can count with a column of this type."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def find_thresholds(rule: Rule, scores: Scores) -> dict[nodes.Compare, Threshold]:
    """What every `top()` of the rule comes to, in as many passes over its columns as the data need (two or three)."""
    searches = {compare: Search(_cut(compare)) for compare in rule.cuts}

    def one_pass(unfinished: list[Search]) -> None:
        active = {compare: search for compare, search in searches.items() if search in unfinished}
        columns = [n.name for compare in active for n in _walk(compare.left) if isinstance(n, nodes.Column)]

        def look(shard: str, table: pa.Table) -> list[tuple[Search, tuple[np.dtype, np.ndarray]]]:
            return [(s, s.look(rows_of(c.left, scores, shard, table))) for c, s in active.items()]

        for parts in scores.map(columns, look):
            for search, part in parts:
                search.add(part)

    return dict(zip(searches, run_passes(list(searches.values()), one_pass), strict=True))


def judge(rule: Rule, thresholds: Thresholds, scores: Scores, shard: str, table: pa.Table) -> Verdict:
    """The verdict on the rows of a shard; `table` holds at least the rule's columns."""

    def cut(compare: nodes.Compare) -> np.ndarray:
        return cut_test(compare, thresholds[compare], scores, shard, table)

    candidates = np.ones(table.num_rows, bool)
    for column in rule.required:
        candidates &= evaluate.present(table[column])
    kept = candidates & evaluate.condition(rule.tree, table, cut)
    return Verdict(candidates, kept)


def cut_test(compare: nodes.Compare, threshold: Threshold, scores: Scores, shard: str, table: pa.Table) -> np.ndarray:
    """Which rows pass a comparison with `top()` or `bottom()`."""
    rows = rows_of(compare.left, scores, shard, table)
    kept = threshold.keeps(rows)
    inside = compare.operator == CUT_OPERATORS[threshold.side][0]
    passed = np.zeros(table.num_rows, bool)
    passed[rows.index] = kept if inside else ~kept
    return passed


def rows_of(value: Node, scores: Scores, shard: str, table: pa.Table) -> Rows:
    """The rows that have a value; uids are read only where ties ask for them, which is seldom."""
    found = evaluate.number(value, table)
    values = np.asarray(found.values)
    if found.valid is None:
        index = np.arange(table.num_rows)
    else:
        index = np.flatnonzero(found.valid)
        values = values[index]

    def uids(chosen: np.ndarray) -> pa.ChunkedArray:
        column = f"{scores.scorers(table.column_names)[0]}.uid"
        return scores.read(shard, [column])[column].take(pa.array(chosen))

    return Rows(values, index, bisect_left(scores.shards, shard), uids)


def limits(rule: Rule, thresholds: Thresholds) -> Iterator[tuple[str, str, float]]:
    """(column, the limit as written, its value) of every comparison of a bare column with a number or a `top()`."""
    for node in _walk(rule.tree):
        match node:
            case nodes.Compare(symbol, nodes.Column(name), nodes.Number(value)):
                yield name, f"{symbol} {nodes.source(node.right)}", float(value)
            case nodes.Compare(symbol, nodes.Number(value), nodes.Column(name)):
                yield name, f"{nodes.source(node.left)} {symbol}", float(value)
            case nodes.Compare(_, nodes.Column(name), nodes.Cut() as cut):
                found = thresholds[node].value
                if found is not None:
                    yield name, nodes.source(cut), float(found)


def _cut(compare: nodes.Compare) -> nodes.Cut:
    assert isinstance(compare.right, nodes.Cut)
    return compare.right
