"""Long JSON lists, read and written an entry at a time, so that a file of any size needs little memory."""

from __future__ import annotations

import codecs
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from vlfilter.data.storage import filesystem, is_local, open_read, temporary_path
from vlfilter.errors import StorageError, VlfilterError

BLOCK = 2**20
_BLANKS = " \t\n\r"


def stream_list(url: str, what: str = "entries") -> Iterator[Any]:
    """The entries of a file that holds one JSON list. `what` names them in messages.

    Raises `VlfilterError` when there is no such file, when it is no UTF-8 or no JSON, and when it is no list; entries
    in front of a mistake have been given by then.
    """
    try:
        file = open_read(url)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    with file:
        yield from _entries(_Text(file, url), url, what)


class _Text:
    """The part of a file's text that is not consumed yet."""

    def __init__(self, file: BinaryIO, url: str):
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._url = url
        self.text = ""
        self.at = 0
        self.ended = False

    def more(self) -> None:
        """Read on: a block, or as much as is waiting already, so that one long entry is not read over and over."""
        self.text = self.text[self.at :]
        self.at = 0
        data = self._file.read(max(BLOCK, len(self.text)))
        try:
            self.text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise VlfilterError(f"{self._url} is not a JSON file in UTF-8: {error.reason}.") from None
        self.ended = not data

    def peek(self) -> str:
        """The next character that is no blank, or "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _BLANKS:
                    return self.text[self.at]
                self.at += 1
            if self.ended:
                return ""
            self.more()


def _entries(text: _Text, url: str, what: str) -> Iterator[Any]:
    if text.peek() != "[":
        raise VlfilterError(f"{url} is not a JSON list of {what}.")
    text.at += 1
    decode = json.JSONDecoder().raw_decode
    number = 0
    if text.peek() != "]":
        while True:
            text.peek()
            try:
                entry, end = decode(text.text, text.at)
            except (ValueError, RecursionError) as error:
                if text.ended:
                    problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise VlfilterError(f"{url} is not a JSON file: entry {number}: {problem}.") from None
                text.more()
                continue
            if not text.ended and text.text[end : end + 1] in ("", ".", "e", "E"):  # a number may go on
                text.more()
                continue
            text.at = end
            number += 1
            yield entry
            after = text.peek()
            if after == "]":
                break
            if after != ",":
                raise VlfilterError(f"{url} is not a JSON file: no comma behind entry {number - 1}.")
            text.at += 1
    text.at += 1
    if text.peek():
        raise VlfilterError(f"{url} is not a JSON file: something follows its list.")


@contextmanager
def whole_file(url: str) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it is in its place when the block ends without an error, not before."""
    fs, path = filesystem(url)
    try:
        if is_local(url):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = temporary_path(path)
        else:
            handle, temporary = tempfile.mkstemp(prefix="vlfilter-")
            os.close(handle)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if is_local(url):
                os.replace(temporary, path)
            else:
                fs.put_file(temporary, path)  # several parts where it is large, seen only when all are there
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
    except OSError as error:
        raise StorageError(f"cannot write {url}: {error.strerror or error}") from error
