"""Which tars there are: a spec becomes a list of shards, checked before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fsspec.core import split_protocol

from vlfilter.data.braces import expand_braces
from vlfilter.data.listing import Found, below, lookup, matching, starting_with
from vlfilter.data.storage import filesystem, is_local, read_bytes
from vlfilter.errors import VlfilterError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MANIFESTS = (".txt", ".json", ".jsonl")
_WILDCARDS = "*?["


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
    """The shards of one spec or several, in order of name; local paths and object stores alike.

    A spec is a tar, a glob, braces (`{00000..00099}.tar`), a folder or an s3:// prefix (all tars below it), or a
    manifest: a `.txt` with one spec a line (`#` begins a comment), a `.json` or `.jsonl` with a list of them; relative
    paths in a manifest start at its folder. Names are relative to the part of the spec in front of the first wildcard,
    to the folder, or to the longest folder that all of a manifest's shards share; a tar given as such is called by its
    stem. A file of zero bytes is listed (it fails alone, when it is read).

    Raises `VlfilterError` when something is missing, nothing is found, two shards have one name, or storage says no.
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    if not specs:
        raise VlfilterError("no shards were given: pass a path, a glob, braces, a folder, an s3:// URL or a manifest.")
    named: dict[str, str] = {}  # URL → name; the first spec that lists a shard names it
    found: dict[str, Found] = {}
    for one in specs:
        for name, file in _manifest(one) if one.endswith(MANIFESTS) else _listed(one):
            named.setdefault(file.url, name)
            found.setdefault(file.url, file)
    urls: dict[str, str] = {}
    for url, name in named.items():
        if name in urls:
            raise VlfilterError(
                f"two shards are called {name!r}: {urls[name]} and {url}. "
                "Give their common folder, a glob or a manifest, so that their names keep their folders."
            )
        urls[name] = url
    return sorted(Shard(name, url, found[url].size, found[url].version) for name, url in urls.items())


def _listed(spec: str) -> list[tuple[str, Found]]:
    """(name, file) of every shard of a spec that is no manifest."""
    if not spec.strip():
        raise VlfilterError("a shard spec is empty.")
    spec = _absolute(spec)
    files, folders, _ = lookup([spec])
    if files:
        return [(_stem(spec), file) for file in files.values()]
    if folders:
        return _some(spec, [(_relative(file.url, spec), file) for file in below(spec, SUFFIXES)])
    expanded = expand_braces(spec)
    if expanded == [spec] and not _is_glob(spec):
        begun = starting_with(spec, SUFFIXES)
        if not begun:
            raise VlfilterError(f"there are no shards at {spec}: no such file, folder or prefix.")
        return [(_relative(file.url, _parent(spec)), file) for file in begun]
    base = _fixed_part(spec)
    plain = [url for url in expanded if not _is_glob(url)]
    files, folders, missing = lookup(plain)
    if missing:
        first = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise VlfilterError(f"{len(missing)} of {len(expanded)} shards of {spec} are missing: {first}")
    hits = list(files.values())
    for folder in folders:
        hits += below(folder, SUFFIXES)
    for pattern in (url for url in expanded if _is_glob(url)):
        hits += matching(pattern)
    return _some(spec, [(_relative(file.url, base), file) for file in hits])


def _manifest(url: str) -> list[tuple[str, Found]]:
    """The shards that a manifest lists, named relative to their longest common folder."""
    folder = _parent(_absolute(url))
    entries = [e if split_protocol(e)[0] or e.startswith(("/", "~")) else f"{folder}/{e}" for e in _entries(url)]
    plain = [_absolute(e) for e in entries if not _is_glob(e) and "{" not in e and e.endswith(SUFFIXES)]
    files, _, _ = lookup(plain)  # the usual case, thousands of tars, by few listings
    hits = list(files.values())
    for entry in entries:
        if entry.endswith(MANIFESTS):
            raise VlfilterError(f"manifest {url} lists another manifest, {entry}: list its shards instead.")
        if _absolute(entry) not in files:
            hits += [file for _, file in _listed(entry)]
    parents = [_parent(file.url).split("/") for file in hits]
    shared = 0
    while all(len(p) > shared for p in parents) and len({p[shared] for p in parents}) == 1:
        shared += 1
    base = "/".join(parents[0][:shared])
    return [(_relative(file.url, base), file) for file in hits]


def _entries(url: str) -> list[str]:
    try:
        text = read_bytes(url).decode("utf-8-sig")
        if url.endswith(".txt"):
            entries = [line.partition(" #")[0].strip() for line in text.splitlines()]
            entries = [line for line in entries if line and not line.startswith("#")]
        elif url.endswith(".jsonl"):
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            entries = json.loads(text)
    except FileNotFoundError:
        raise VlfilterError(f"there is no manifest {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"manifest {url} cannot be read: {error}") from error
    except VlfilterError:
        raise
    except Exception as error:  # object stores raise their own families of errors
        raise VlfilterError(f"manifest {url} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(e, str) and e.strip() for e in entries):
        raise VlfilterError(f"manifest {url} should hold a list of paths or URLs, each a text.")
    if not entries:
        raise VlfilterError(f"manifest {url} lists no shards.")
    return entries


def _some(spec: str, shards: list[tuple[str, Found]]) -> list[tuple[str, Found]]:
    if not shards:
        raise VlfilterError(
            f"there are no shards at {spec}: nothing there is called {', '.join(f'*{s}' for s in SUFFIXES)}."
        )
    return shards


def _absolute(spec: str) -> str:
    """The spec with an absolute path; URLs keep their protocol, and lose a slash at the end."""
    return filesystem(spec)[1] if is_local(spec) else spec.rstrip("/")


def _is_glob(spec: str) -> bool:
    return any(character in spec for character in _WILDCARDS)


def _fixed_part(spec: str) -> str:
    """The folders in front of the first one with a wildcard or a brace."""
    parts = spec.split("/")
    first = next(i for i, part in enumerate(parts) if _is_glob(part) or "{" in part)
    return "/".join(parts[:first])


def _parent(url: str) -> str:
    return url.rpartition("/")[0]


def _relative(url: str, base: str) -> str:
    return _without_suffix(url.removeprefix(base).lstrip("/"))


def _stem(url: str) -> str:
    return _without_suffix(url.rpartition("/")[2])


def _without_suffix(name: str) -> str:
    for suffix in SUFFIXES:
        if name.endswith(suffix) and not name.endswith("/" + suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name
