"""A scorer's own options: a small dataclass filled from `ScorerSettings.options`, with clear refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from vlfilter.errors import VlfilterError

Options = TypeVar("Options")
COMPAT = (None, "original")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def read_options(kind: type[Options], given: Mapping[str, Any], scorer: str) -> Options:
    """An instance of the dataclass `kind`. Raises `VlfilterError` for an unknown name or a value of another type.

    Types are those of the defaults; integers may come as text, and text as an integer (from a command line).
    """
    known = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(known)):
        names = ", ".join(sorted(known)) or "none"
        raise VlfilterError(f"{scorer} has no option {', '.join(unknown)}. Its options: {names}.")
    values: dict[str, Any] = {}
    for name, value in given.items():
        wanted = type(known[name])
        try:
            values[name] = int(value) if wanted is int and not isinstance(value, bool | float) else value
            values[name] = str(value) if wanted is str and type(value) is int else values[name]
        except (TypeError, ValueError) as error:
            raise VlfilterError(f"{scorer}: option {name} must be a whole number, not {value!r}.") from error
        if not isinstance(values[name], wanted) or (wanted is int and (values[name] < 1 or isinstance(value, bool))):
            what = "a whole number above 0" if wanted is int else f"of type {wanted.__name__}"
            raise VlfilterError(f"{scorer}: option {name} must be {what}, not {value!r}.")
    return kind(**values)


def refuse_options(given: Mapping[str, Any], scorer: str) -> None:
    """For a scorer without options of its own."""
    if given:
        raise VlfilterError(f"{scorer} has no options, but was given {', '.join(sorted(given))}.")


def choose(scorer: str, name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    """Raises `VlfilterError` unless `value` is one of `allowed`."""
    if value not in allowed:
        known = ", ".join(str(choice) for choice in allowed if choice is not None)
        raise VlfilterError(f"{scorer}: {name} {value!r} is unknown: {known}.")
