"""What a schema is: how a data set's annotation files are gone through, and what one entry of them says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlfilter.data.json_lists import stream_list
from vlfilter.data.schemas.text import blip_caption
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError

Mode = Literal["compat", "fixed"]


class LeftOutError(Exception):
    """A row that is left out by rule: the reason, worded alike for all rows that it is true of."""


@dataclass(frozen=True, slots=True)
class Example:
    """What a row says. One of `asked` goes into the template, one of `answers` is learnt (VQAv2 has ten of them), and
    then the `later` turns (question, answer) as they are. `image` is the path or the id that the row has."""

    id: str
    image: str | int | None
    asked: tuple[str, ...]
    answers: tuple[str, ...]
    later: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class How:
    """`mode` compat words rows as MiniGPT-v2's data sets do, defects included; fixed keeps their words. `key` is the
    row's own, of which whatever is drawn for it depends alone."""

    mode: Mode
    key: str

    def text(self, words: str) -> str:
        """Of the texts that the original sends through its text processor."""
        return blip_caption(words) if self.mode == "compat" else words.strip()


@dataclass(frozen=True, slots=True)
class Schema:
    """`entries` goes through the files and raises `VlfilterError` where one is missing or of another form; `example`
    raises `ValueError` for an entry that cannot be used and `LeftOutError` for one that is not meant to be.

    `template` is the pool that is taken where an entry of a mixture names none, `image_name` how an image is called
    below its folder (`{image}` as the row has it, `{name}` the last part of that), None for rows without images.
    `files` names the annotation files in their order where there are several of different kinds.
    """

    entries: Callable[[Sequence[str]], Iterator[Any]]
    example: Callable[[Any, How], Example]
    template: str
    image_name: str | None = "{image}"
    files: tuple[str, ...] = ()


def lists(urls: Sequence[str]) -> Iterator[Any]:
    """The entries of JSON lists, one file after the other."""
    for url in urls:
        yield from stream_list(url, "rows")


def read_object(url: str) -> dict[str, Any]:
    """A JSON object. Raises `VlfilterError` for a file that is missing or holds something else."""
    try:
        found = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None
    if not isinstance(found, dict):
        raise VlfilterError(f"{url} holds no JSON object.")
    return found


def fields(row: Any) -> Mapping[str, Any]:
    """Raises `ValueError` unless the row is an object."""
    if not isinstance(row, Mapping):
        raise ValueError("the row is not an object")
    return row


def text(row: Mapping[str, Any], name: str) -> str:
    """A text that says something. Numbers are texts too. Raises `ValueError` naming the field."""
    value = row.get(name)
    if value is None:
        raise ValueError(f"it has no {name}")
    return worded(value, name)


def worded(value: Any, name: str) -> str:
    """`value` as a text that says something. Raises `ValueError` naming it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is not a text")
    if not str(value).strip():
        raise ValueError(f"{name} is empty")
    if not _is_whole(str(value)):
        raise ValueError(f"{name} holds half a character (a lone surrogate)")
    return str(value)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def image_of(row: Mapping[str, Any], *names: str) -> str | int:
    """The path or id of the first of these fields that is there. Raises `ValueError` when none names an image."""
    value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("it names no image" if value is None else f"its image {value!r} is neither a path nor an id")
    return value


def id_of(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is there, as text; "" when none is."""
    return next((str(row[name]) for name in names if isinstance(row.get(name), str | int)), "")
