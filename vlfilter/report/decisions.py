"""What decided: every part of a rule with its value, its threshold, and whether the row passed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlfilter.data.scores import Scores
from vlfilter.selection import nodes, rules
from vlfilter.selection.evaluate import condition, is_text, number, present
from vlfilter.selection.nodes import Node, source
from vlfilter.selection.top import Threshold


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the rule, `depth` levels down; `detail` shows the row's values and thresholds."""

    depth: int
    text: str
    passed: bool
    detail: str


def decide(
    rule: rules.Rule, thresholds: rules.Thresholds, scores: Scores, shard: str, table: pa.Table, row: int
) -> tuple[tuple[Step, ...], bool]:
    """The steps for one row of a shard, and whether the whole rule keeps it. `table` holds the rule's columns."""

    def passes(node: Node) -> bool:
        return bool(condition(node, table, lambda n: rules.cut_test(n, thresholds[n], scores, shard, table))[row])

    def walk(node: Node, depth: int) -> list[Step]:
        match node:
            case nodes.And(parts) | nodes.Or(parts):
                word = "all of" if isinstance(node, nodes.And) else "any of"
                below = [step for part in parts for step in walk(part, depth + 1)]
                return [Step(depth, word, passes(node), ""), *below]
            case nodes.Not(operand):
                return [Step(depth, "not", passes(node), ""), *walk(operand, depth + 1)]
            case nodes.Compare():
                threshold = thresholds.get(node)
                return [Step(depth, source(node), passes(node), _detail(node, threshold, table, row))]
            case _:
                return [Step(depth, source(node), passes(node), "")]

    missing = [column for column in rule.required if not present(table[column])[row]]
    steps = walk(rule.tree, 0)
    if missing:
        steps.insert(0, Step(0, f"has {', '.join(missing)}", False, "a row without a value is never kept"))
    verdict = rules.judge(rule, thresholds, scores, shard, table)
    return tuple(steps), bool(verdict.kept[row])


def _detail(node: nodes.Compare, threshold: Threshold | None, table: pa.Table, row: int) -> str:
    sides = [side for side in (node.left, node.right) if not isinstance(side, nodes.Number | nodes.Text | nodes.Cut)]
    parts = [f"{source(side)} is {_value(side, table, row)}" for side in sides]
    if threshold is not None:
        if threshold.value is None:
            parts.append(f"nothing of {threshold.rows:,} is kept")
        else:
            parts.append(f"the last of {threshold.kept:,} kept (of {threshold.rows:,}) has {_number(threshold.value)}")
            if threshold.ties and _value(node.left, table, row) == _number(threshold.value):
                parts.append(f"{threshold.ties:,} rows are tied there and a hash of the uid decided")
    return "; ".join(parts)


def _value(node: Node, table: pa.Table, row: int) -> str:
    if is_text(node, table.schema):
        assert isinstance(node, nodes.Column)
        return repr(table[node.name][row].as_py())
    found = number(node, table)
    if not found.present(table.num_rows)[row]:
        return "none"
    return _number(float(np.broadcast_to(found.values, table.num_rows)[row]))


def _number(value: float) -> str:
    return f"{value:.7g}"
