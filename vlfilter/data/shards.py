"""Which tars there are: a spec becomes a list of shards, checked before anything is loaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vlfilter.data.storage import filesystem, read_bytes
from vlfilter.errors import VlfilterError

SUFFIXES = (".tar", ".tar.gz", ".tgz")
MANIFESTS = (".txt", ".json", ".jsonl")
WILDCARD = re.compile(r"[*?\[]")
MAGIC = re.compile(r"[*?\[{]")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One tar.

    `name` tells it apart within a run and names its tables: the path below the fixed part of the spec, without `.tar`.
    `size` is in bytes; `version` is the etag (object stores) or the modification time in nanoseconds (local files).
    """

    name: str
    url: str
    size: int
    version: str


def list_shards(spec: str | Sequence[str]) -> list[Shard]:
    """The shards of one or more specs, in order of name: a path, a glob, braces, a folder, a prefix, or a manifest.

    Names do not change when shards are added: below a folder, a prefix, or the part of a pattern before its first
    wildcard, the name is the path from there; a plain path has its base name; a manifest's entries are named from
    their longest common folder. Raises `VlfilterError` when something named is missing, nothing is found, two shards
    would have one name, or the storage cannot be listed.
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    found: dict[str, Shard] = {}
    for entry in specs:
        for shard in _expand(entry):
            other = found.setdefault(shard.name, shard)
            if other.url != shard.url:
                raise VlfilterError(
                    f"{other.url} and {shard.url} would both be called {shard.name!r}: "
                    "give their common folder as one spec, or score them into different outputs."
                )
    if not found:
        raise VlfilterError(f"no .tar files in {', '.join(specs) or 'an empty list of specs'}.")
    return sorted(found.values())


def expand_braces(pattern: str) -> list[str]:
    """`{00000..00099}` (zero padding kept), `{a,b}`, nested: every string it stands for, in order."""
    start = pattern.find("{")
    if start < 0:
        return [pattern]
    depth, end, cuts = 0, start, [start]
    for end in range(start, len(pattern)):
        character = pattern[end]
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 1:
            cuts.append(end)
        if depth == 0:
            break
    if depth:
        raise VlfilterError(f"{pattern!r}: a brace is never closed.")
    inner = pattern[start + 1 : end]
    if len(cuts) > 1:
        choices = [pattern[a + 1 : b] for a, b in pairwise([*cuts, end])]
    elif span := RANGE.fullmatch(inner):
        choices = _range(*span.groups())
    else:
        raise VlfilterError(
            f"{pattern!r}: {{{inner}}} is neither a range like {{00000..00099}} nor a list like {{a,b}}."
        )
    tails = expand_braces(pattern[end + 1 :])
    heads = [pattern[:start] + part for choice in choices for part in expand_braces(choice)]
    return [head + tail for head in heads for tail in tails]


def _range(first: str, last: str) -> list[str]:
    if int(last) < int(first):
        raise VlfilterError(f"the range {{{first}..{last}}} goes down.")
    width = len(first) if first.startswith("0") else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _expand(spec: str) -> list[Shard]:
    if not spec:
        raise VlfilterError("an empty string is no shard spec.")
    try:
        if MAGIC.search(spec):
            return _pattern(spec)
        if spec.endswith(MANIFESTS):
            return _manifest(spec)
        return _place(spec)
    except VlfilterError:
        raise
    except Exception as error:  # each storage raises its own family of errors
        raise VlfilterError(f"{spec} cannot be listed: {type(error).__name__}: {error}") from error


def _place(spec: str) -> list[Shard]:
    """A tar, whatever it is called, or a folder of them."""
    fs, path = filesystem(spec)
    if not fs.exists(path):
        raise VlfilterError(f"{spec} does not exist.")
    info = fs.info(path)
    if info["type"] != "directory":
        return [_shard(fs, info, os.path.dirname(path))]
    below = [found for name, found in fs.find(path, detail=True).items() if name.endswith(SUFFIXES)]
    if not below:
        raise VlfilterError(f"no .tar files below {spec}.")
    return [_shard(fs, found, path) for found in below]


def _pattern(spec: str) -> list[Shard]:
    """Braces without wildcards take one listing a folder, however many names they stand for."""
    fs, path = filesystem(spec)
    root = path[: MAGIC.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
    wanted = expand_braces(path)
    if any(WILDCARD.search(pattern) for pattern in wanted):
        globbed = [found for pattern in wanted for found in fs.glob(pattern, detail=True).values()]
        chosen = [info for info in globbed if info["type"] != "directory" and info["name"].endswith(SUFFIXES)]
        if not chosen:
            raise VlfilterError(f"no .tar file matches {spec}.")
        return [_shard(fs, info, root) for info in chosen]
    there = _files(fs, wanted)
    if missing := [name for name in wanted if name not in there]:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise VlfilterError(f"{len(missing)} of the {len(wanted)} shards of {spec} do not exist: {shown}")
    return [_shard(fs, there[name], root) for name in wanted]


def _files(fs: Any, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is known of those of the paths that exist."""
    folders = {os.path.dirname(path) for path in paths}
    listed = [info for folder in folders if fs.isdir(folder) for info in fs.ls(folder, detail=True)]
    return {info["name"]: info for info in listed if info["type"] != "directory"}


def _manifest(spec: str) -> list[Shard]:
    """The tars that a file names: `.txt` one a line (# comments), `.json` a list, `.jsonl` one string a line."""
    try:
        text = read_bytes(spec).decode("utf-8-sig")
        if spec.endswith(".json"):
            entries = json.loads(text)
        elif spec.endswith(".jsonl"):
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            entries = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    except FileNotFoundError:
        raise VlfilterError(f"the manifest {spec} does not exist.") from None
    except ValueError as error:
        raise VlfilterError(f"the manifest {spec} cannot be read: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries) or not entries:
        raise VlfilterError(f"the manifest {spec} should hold a list of paths or URLs.")
    here = spec.rpartition("/")[0]
    paths = [path for entry in entries for path in expand_braces(_beside(entry, here))]
    fs = filesystem(paths[0])[0]
    inside = [filesystem(path)[1] for path in paths]
    there = _files(fs, inside)
    if missing := [path for path, name in zip(paths, inside, strict=True) if name not in there]:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise VlfilterError(f"{len(missing)} of the {len(paths)} shards in {spec} do not exist: {shown}")
    root = os.path.commonpath([os.path.dirname(name) for name in inside])
    return [_shard(fs, there[name], root) for name in inside]


def _beside(entry: str, folder: str) -> str:
    """A relative path in a manifest is meant from the manifest's folder."""
    return entry if "://" in entry or entry.startswith("/") or not folder else f"{folder}/{entry}"


def _shard(fs: Any, info: dict[str, Any], root: str) -> Shard:
    path = info["name"]
    name = path[len(root) :].lstrip("/") if path.startswith(root) else path
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    if fs.protocol == ("file", "local"):
        modified = os.stat(path)
        return Shard(name, path, modified.st_size, str(modified.st_mtime_ns))
    version = info.get("ETag") or info.get("etag") or info.get("LastModified") or ""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return Shard(name, f"{protocol}://{path}", int(info["size"]), str(version).strip('"'))
