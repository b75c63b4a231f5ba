"""The tree of a `--where` expression: frozen dataclasses. `at` is where in the text a node's operator or name is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float
    at: int


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    at: int


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Cut:
    """`top(…)` or `bottom(…)`: a share of all scores (`share`) or a number of them (`count`).

    With `datacomp` it follows DataComp's scripts instead of keeping an exact number: see `vlfilter.selection.top`.
    """

    side: str
    share: Fraction | None
    count: int | None
    datacomp: bool
    at: int


@dataclass(frozen=True, slots=True)
class IsNull:
    column: Column
    at: int


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Node
    at: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class Compare:
    operator: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node
    at: int


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]
    at: int


Node = Number | Text | Column | Cut | IsNull | Negative | Arithmetic | Compare | Not | And | Or


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Negative(operand) | Not(operand):
            return (operand,)
        case Arithmetic(_, left, right) | Compare(_, left, right):
            return (left, right)
        case And(parts) | Or(parts):
            return parts
        case IsNull(column):
            return (column,)
        case _:
            return ()


def source(node: Node) -> str:
    """The node written out again, with no more parentheses than it needs to be read."""
    match node:
        case Number(value):
            return "1e999" if value == float("inf") else str(value)
        case Text(value):
            return f"'{value}'" if '"' in value else f'"{value}"'
        case Column(name):
            return name if re.fullmatch(r"[A-Za-z_][\w.]*", name) else f"`{name}`"
        case Cut(side, share, count, datacomp):
            amount = f"{float(share * 100):.15g}%" if share is not None else str(count)
            return f"{side}({amount}{', datacomp' if datacomp else ''})"
        case IsNull(column):
            return f"isnull({source(column)})"
        case Negative(operand):
            return f"-{_wrapped(operand)}"
        case Not(operand):
            return f"not {_wrapped(operand)}"
        case Arithmetic(operator, left, right) | Compare(operator, left, right):
            return f"{_wrapped(left)} {operator} {_wrapped(right)}"
        case And(parts):
            return " and ".join(_wrapped(part) if isinstance(part, Or | And) else source(part) for part in parts)
        case Or(parts):
            return " or ".join(_wrapped(part) if isinstance(part, Or) else source(part) for part in parts)


def _wrapped(node: Node) -> str:
    return f"({source(node)})" if len(children(node)) > 1 else source(node)
