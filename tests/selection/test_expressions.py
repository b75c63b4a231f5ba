from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfilter.errors import VlfilterError
from vlfilter.selection.expressions import ExpressionError, parse
from vlfilter.selection.nodes import And, Arithmetic, Column, Compare, Cut, IsNull, Negative, Not, Number, Or, source


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("(a > 1 or b > 2) and c > 3", "(a > 1 or b > 2) and c > 3"),
        ("a > 1e999 or a == 1.0000000000000002", "a > 1e999 or a == 1.0000000000000002"),
        ("quality_score >= 2.5 and clip_score >= top(30%)", "quality_score >= 2.5 and clip_score >= top(30%)"),
        ("a > 1 or b > 2 and c > 3", "a > 1 or b > 2 and c > 3"),
        ("not a > 1 and b > 2", "not (a > 1) and b > 2"),
        ("1 <= x < 3", "1 <= x and x < 3"),
        ("a - b - c > a / b * c", "((a - b) - c) > ((a / b) * c)"),
        ("-x + 2*y >= bottom(1000)", "(-x + (2 * y)) >= bottom(1000)"),
        ("top(12.5%) <= a.b", "a.b >= top(12.5%)"),
        ("x >= top(5, datacomp)", "x >= top(5, datacomp)"),
        ("`my-scorer.score` == 'o\"k'", "`my-scorer.score` == 'o\"k'"),
        ("isnull(x) or (x)>1e-3\n and top == .5", "isnull(x) or x > 0.001 and top == 0.5"),
    ],
)
def test_reads_what_is_meant(text: str, written: str) -> None:
    assert source(parse(text)) == written


def test_share_is_the_decimal_as_written() -> None:
    tree = parse("x >= top(29%)")
    assert isinstance(tree, Compare)
    assert isinstance(tree.right, Cut)
    assert tree.right.share == Fraction(29, 100)


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("x = 3", 2, "write =="),
        ("x >= ", 4, "expected a column"),
        ("x >= top(0.3)", 9, "percentage"),
        ("x >= top(101%)", 9, "0% to 100%"),
        ("x >= top(1e-99999999%)", 9, "0% to 100%"),
        ("x >= top(3%, exact)", 13, "datacomp"),
        ("(x > 1", 6, "')'"),
        ("x > 1 y", 6, "expected `and`"),
        ("a > 1 && b > 2", 6, "write `and`"),
        ("isnull(3)", 7, "takes a column"),
        ('x == "ok', 5, "cannot read"),
        ("x > 1 and", 9, "expected a column"),
    ],
)
def test_marks_the_place_of_a_mistake(text: str, at: int, message: str) -> None:
    with pytest.raises(ExpressionError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        parse(text)
    *_, line, caret = str(caught.value).split("\n")
    assert line[2:] == text.rstrip("\n")
    assert caret.index("^") - 2 == at


def test_marks_the_place_in_the_right_line() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("x > 1 and\n\ty = 2 and\nz > 1")
    assert str(caught.value).split("\n")[1:] == ["   y = 2 and", "     ^"]


@pytest.mark.parametrize("text", ["", "  \n", "(" * 5000, "not " * 2000 + "x", "-" * 3000 + "x > 1", "x" * 20_000])
def test_nothing_and_far_too_much_are_refused(text: str) -> None:
    with pytest.raises(VlfilterError):
        parse(text)


def test_long_chains_of_conditions_are_fine() -> None:
    tree = parse(" or ".join(f"x == {n}" for n in range(500)))
    assert isinstance(tree, Or)
    assert len(tree.parts) == 500
    with pytest.raises(ExpressionError, match="nested or chained"):
        parse("+".join("x" for _ in range(500)) + " > 1")


PIECES = ["x", "a.b", "`q r`", "1", ".5", "2e3", "30", "%", "(", ")", "top(", "bottom(", "isnull(", "and", "or", "not"]
PIECES += ["<", "<=", "==", "!=", "+", "-", "*", "/", ",", "'t'", '"', " ", "\n", "é", "datacomp", "\x00"]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join)))
def test_any_text_is_a_tree_or_a_clear_error(text: str) -> None:
    try:
        tree = parse(text)
    except VlfilterError:
        pass
    else:
        assert source(parse(source(tree))) == source(tree)


def _leaves() -> st.SearchStrategy[object]:
    return st.one_of(
        st.builds(Number, st.integers(0, 9999), st.just(0)), st.builds(Column, st.sampled_from("abc"), st.just(0))
    )


def _sums(of: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.builds(Arithmetic, st.sampled_from("+-*/"), of, of, st.just(0)), st.builds(Negative, of, st.just(0))
    )


VALUES = st.recursive(_leaves(), _sums, max_leaves=6)
CUTS = st.builds(
    Cut, st.sampled_from(["top", "bottom"]), st.just(Fraction(3, 10)), st.none(), st.booleans(), st.just(0)
)
TESTS = st.one_of(
    st.builds(Compare, st.sampled_from(["<", "<=", "==", "!="]), VALUES, VALUES | CUTS, st.just(0)),
    st.builds(IsNull, st.builds(Column, st.just("x"), st.just(0)), st.just(0)),
)


def _joined(of: st.SearchStrategy) -> st.SearchStrategy:
    parts = st.lists(of, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(And, parts, st.just(0)), st.builds(Or, parts, st.just(0)), st.builds(Not, of, st.just(0))
    )


@settings(max_examples=200, deadline=None)
@given(st.recursive(TESTS, _joined, max_leaves=8))
def test_a_tree_written_out_reads_back_as_itself(tree: And | Or | Not | Compare | IsNull) -> None:
    assert _bare(parse(source(tree))) == _bare(tree)


def _bare(node: object) -> object:
    """The tree without places."""
    if isinstance(node, tuple):
        return tuple(_bare(part) for part in node)
    names = [name for name in getattr(node, "__dataclass_fields__", {}) if name != "at"]
    return (type(node), *(_bare(getattr(node, name)) for name in names)) if names else node
