"""The language of `--where`: a small tokenizer and a recursive descent parser to frozen dataclasses.

    expression := conjunction ("or" conjunction)*
    conjunction := negation ("and" negation)*
    negation   := "not" negation | comparison
    comparison := sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)*        chained as in 1 <= x < 3
    sum        := product (("+" | "-") product)*
    product    := unary (("*" | "/") unary)*
    unary      := "-" unary | NUMBER | STRING | COLUMN | "(" expression ")"
                | "isnull" "(" COLUMN ")" | ("top" | "bottom") "(" (NUMBER "%" | COUNT) ["," "datacomp"] ")"

A column is written bare, as `scorer.column`, or between backticks when its name is no identifier. Nothing is evaluated
here, and no text ever reaches Python's own parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from vlfilter.errors import VlfilterError
from vlfilter.selection.nodes import (
    And,
    Arithmetic,
    Column,
    Compare,
    Cut,
    IsNull,
    Negative,
    Node,
    Not,
    Number,
    Or,
    Text,
)

MAX_LENGTH = 10_000
# Nested or chained operators; deeper would only meet Python's recursion limit in parser or evaluation.
MAX_DEPTH = 50


class ExpressionError(VlfilterError):
    """A mistake in an expression; the message shows the line and marks the place."""

    def __init__(self, message: str, text: str, at: int):
        start = text.rfind("\n", 0, at) + 1
        line = text[start:].split("\n", 1)[0].replace("\t", " ")
        super().__init__(f"{message}\n  {line}\n  {' ' * (at - start)}^")
        self.at = at


_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
  | `(?P<quoted>[^`\n]+)`
  | (?P<string>"[^"\n]*"|'[^'\n]*')
  | (?P<symbol><=|>=|==|!=|[<>()+\-*/%,])
  )""",
    re.VERBOSE | re.ASCII,
)
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if not match or not match.lastgroup:
            at += len(text[at:]) - len(text[at:].lstrip())
            hint = {"=": " (write == to compare)", "&": " (write `and`)", "|": " (write `or`)", "!": " (write `not`)"}
            raise ExpressionError(f"cannot read {text[at]!r} here{hint.get(text[at], '')}:", text, at)
        group = match.lastgroup
        start = match.start(group) - (group == "quoted")
        found.append(_Token(group, match[group], start))
        at = match.end()
    return [*found, _Token("end", "", end)]


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.tokens = _tokens(text)
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.index]

    def fail(self, message: str, at: int | None = None) -> ExpressionError:
        return ExpressionError(message, self.text, self.token.at if at is None else at)

    def accept(self, *texts: str) -> _Token | None:
        token = self.token
        if token.kind in ("symbol", "name") and token.text in texts:
            self.index += 1
            return token
        return None

    def expect(self, symbol: str, what: str) -> None:
        if not self.accept(symbol):
            raise self.fail(f"expected {symbol!r} {what}:")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f"more than {MAX_DEPTH} nested or chained operators:")

    def expression(self) -> Node:
        return self.joined("or", Or, self.conjunction)

    def conjunction(self) -> Node:
        return self.joined("and", And, self.negation)

    def joined(self, word: str, kind: type[And] | type[Or], part: Callable[[], Node]) -> Node:
        first = part()
        parts, at = [first], first.at
        while token := self.accept(word):
            at = at if len(parts) > 1 else token.at
            parts.append(part())
        return kind(tuple(parts), at) if len(parts) > 1 else first

    def negation(self) -> Node:
        token = self.accept("not")
        if not token:
            return self.comparison()
        self.deeper()
        operand = self.negation()
        self.depth -= 1
        return Not(operand, token.at)

    def comparison(self) -> Node:
        terms, operators = [self.sum()], []
        while token := self.accept(*_MIRROR):
            operators.append(token)
            terms.append(self.sum())
        if not operators:
            return terms[0]
        pairs = tuple(compare(t.text, a, b, t.at) for t, a, b in zip(operators, terms, terms[1:], strict=False))
        return pairs[0] if len(pairs) == 1 else And(pairs, operators[0].at)

    def sum(self) -> Node:
        return self.chain(("+", "-"), self.product)

    def product(self) -> Node:
        return self.chain(("*", "/"), self.unary)

    def chain(self, operators: tuple[str, ...], part: Callable[[], Node]) -> Node:
        node, depth = part(), self.depth
        while token := self.accept(*operators):
            self.deeper()
            node = Arithmetic(token.text, node, part(), token.at)
        self.depth = depth
        return node

    def unary(self) -> Node:
        if token := self.accept("-"):
            self.deeper()
            operand = self.unary()
            self.depth -= 1
            return Negative(operand, token.at)
        if token := self.accept("("):
            self.deeper()
            inner = self.expression()
            self.depth -= 1
            self.expect(")", "to close the parenthesis")
            return inner
        return self.primary()

    def primary(self) -> Node:
        token = self.token
        self.index += 1
        if token.kind == "number":
            return Number(_number(token.text), token.at)
        if token.kind == "string":
            return Text(token.text[1:-1], token.at)
        if token.kind == "quoted":
            return Column(token.text, token.at)
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            if token.text in ("top", "bottom") and self.accept("("):
                return self.cut(token)
            if token.text == "isnull" and self.accept("("):
                return self.isnull(token)
            return Column(token.text, token.at)
        self.index -= 1
        raise self.fail("expected a column, a number or '(' here:")

    def cut(self, name: _Token) -> Cut:
        amount = self.token
        if amount.kind != "number":
            raise self.fail(f"expected {name.text}(30%) or {name.text}(1000):")
        self.index += 1
        share, count = None, None
        if self.accept("%"):
            # The decimal as written, not its nearest float: 29% of 100 rows are 29 (int(100 * 0.29) is 28).
            # No exponents: a Fraction of "1e-999999999" would never be done.
            plain = amount.text.replace(".", "").isdigit() and len(amount.text) < 40
            share = Fraction(amount.text) / 100 if plain else None
            if share is None or share > 1:
                raise self.fail(f"{name.text}() takes 0% to 100%:", amount.at)
        elif amount.text.isdigit() and len(amount.text) <= 18:
            count = int(amount.text)
        else:
            raise self.fail(f"{name.text}() takes a percentage, as {name.text}(30%), or a whole number:", amount.at)
        datacomp = False
        if self.accept(","):
            datacomp = self.accept("datacomp") is not None
            if not datacomp:
                raise self.fail("only `datacomp` may follow the comma:")
        self.expect(")", f"to close {name.text}(")
        return Cut(name.text, share, count, datacomp, name.at)

    def isnull(self, name: _Token) -> IsNull:
        token = self.token
        if token.kind not in ("name", "quoted"):
            raise self.fail("isnull() takes a column:")
        self.index += 1
        self.expect(")", "to close isnull(")
        return IsNull(Column(token.text, token.at), name.at)


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() and len(text) <= 18 else float(text)


def compare(operator: str, left: Node, right: Node, at: int) -> Compare:
    """A comparison with `top()`, if there is one, on its right."""
    if isinstance(left, Cut) and not isinstance(right, Cut):
        return Compare(_MIRROR[operator], right, left, at)
    return Compare(operator, left, right, at)


def parse(text: str) -> Node:
    """The tree of an expression. Raises `ExpressionError` with the place of the mistake."""
    if len(text) > MAX_LENGTH:
        raise VlfilterError(f"the expression has {len(text)} characters; {MAX_LENGTH} are allowed.")
    if not text.strip():
        raise VlfilterError('the expression is empty; write one such as "clip_score >= top(30%)".')
    parser = _Parser(text)
    tree = parser.expression()
    if parser.token.kind != "end":
        raise parser.fail("expected `and`, `or` or the end here:")
    return tree
