"""Expressions over one shard's rows: Arrow columns in, numpy values and masks out.

A number's place is empty where the column is null or NaN, or where arithmetic gives NaN; any comparison with an empty
place is false. Bare columns keep their type, so that `clip_score >= 0.3` means in float32 what it means in numpy and
pandas (the literal is rounded as the scores were); arithmetic is done in float64.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlfilter.selection import nodes
from vlfilter.selection.nodes import Node

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
ARITHMETIC = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}

CutTest = Callable[[nodes.Compare], np.ndarray]


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values`: n numbers, or one for a literal; `valid`: which of them count (None: all)."""

    values: np.ndarray | int | float
    valid: np.ndarray | None = None

    def present(self, rows: int) -> np.ndarray:
        return np.ones(rows, bool) if self.valid is None else self.valid


def numbers(column: pa.ChunkedArray) -> Numbers:
    """A column of integers, booleans or floats. -0.0 becomes 0.0, to which it is equal."""
    valid = None
    if column.null_count:
        valid = column.is_valid().to_numpy()
        zero = False if pa.types.is_boolean(column.type) else 0
        column = column.fill_null(pa.scalar(zero, column.type))
    values = column.to_numpy()
    if values.dtype == bool:
        return Numbers(values.astype(np.int64), valid)
    if not np.issubdtype(values.dtype, np.floating):
        return Numbers(values.astype(np.uint64 if values.dtype == np.uint64 else np.int64, copy=False), valid)
    nan = np.isnan(values)
    if nan.any():
        valid = ~nan if valid is None else valid & ~nan
    return Numbers(values + values.dtype.type(0), valid)


def number(node: Node, table: pa.Table) -> Numbers:
    """The value of a numeric node on every row."""
    match node:
        case nodes.Number(value):
            return Numbers(value)
        case nodes.Column(name):
            return numbers(table[name])
        case nodes.Negative(operand):
            inner = number(operand, table)
            return Numbers(-_as_float(inner.values) + 0.0, inner.valid)
        case nodes.Arithmetic(symbol, left, right):
            a, b = number(left, table), number(right, table)
            with np.errstate(all="ignore"):
                values = ARITHMETIC[symbol](_as_float(a.values), _as_float(b.values)) + 0.0
            return Numbers(values, _both(_both(a.valid, b.valid), ~np.isnan(values)))
    raise AssertionError(f"not a number: {node}")


def condition(node: Node, table: pa.Table, cut: CutTest) -> np.ndarray:
    """Which rows a condition holds for; `cut` answers the comparisons with `top()` and `bottom()`."""
    rows = table.num_rows
    match node:
        case nodes.And(parts):
            return np.logical_and.reduce([condition(part, table, cut) for part in parts])
        case nodes.Or(parts):
            return np.logical_or.reduce([condition(part, table, cut) for part in parts])
        case nodes.Not(operand):
            return ~condition(operand, table, cut)
        case nodes.IsNull(column):
            return ~present(table[column.name])
        case nodes.Compare(_, _, nodes.Cut()):
            return cut(node)
        case nodes.Compare(symbol, left, right) if is_text(left, table.schema):
            same = pc.equal(_text(left, table), _text(right, table))
            same = pc.fill_null(same if symbol == "==" else pc.invert(same), False)
            return np.full(rows, same.as_py()) if isinstance(same, pa.Scalar) else same.to_numpy(zero_copy_only=False)
        case nodes.Compare(symbol, left, right):
            a, b = number(left, table), number(right, table)
            found = np.broadcast_to(np.asarray(COMPARE[symbol](a.values, b.values)), rows)
            valid = _both(a.valid, b.valid)
            return found & valid if valid is not None else found.copy()
    raise AssertionError(f"not a condition: {node}")


def present(column: pa.ChunkedArray) -> np.ndarray:
    """Which rows of a column hold a value: not null and not NaN."""
    if pa.types.is_floating(column.type):
        return numbers(column).present(len(column))
    found: np.ndarray = column.is_valid().to_numpy()
    return found


def is_text(node: Node, schema: pa.Schema) -> bool:
    if isinstance(node, nodes.Column):
        kind = schema.field(node.name).type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return isinstance(node, nodes.Text)


def _text(node: Node, table: pa.Table) -> pa.ChunkedArray | pa.Scalar:
    match node:
        case nodes.Text(value):
            return pa.scalar(value)
        case nodes.Column(name):
            return table[name]
    raise AssertionError(f"not text: {node}")


def _as_float(values: np.ndarray | int | float) -> np.ndarray:
    return np.asarray(values, np.float64)


def _both(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b
