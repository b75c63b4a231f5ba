"""Where an index's images come from: tar shards, a COCO folder with its annotations, or a folder of image files.

An image's id is the number in its name where that is all digits (`000000391895.jpg` → 391895, as COCO's ids), else its
key or its path without the extension. With COCO annotations it is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vlfilter.data.decode import IMAGE_EXTENSIONS
from vlfilter.data.image_files import inside
from vlfilter.data.listing import Found, below
from vlfilter.data.reader import read_shard
from vlfilter.data.samples import RawSample, SampleError, Status
from vlfilter.data.shards import SUFFIXES, Shard, list_shards
from vlfilter.data.storage import absolute, filesystem, join, read_bytes
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.retrieval.index import ImageId

PART = 4096  # image files embedded and stored together
_SUFFIXES = tuple(f".{extension}" for name in IMAGE_EXTENSIONS for extension in (name, name.upper()))


@dataclass(frozen=True, slots=True)
class Picture:
    """One image as found: `load` gives its file's bytes, or raises `SampleError` with the reason why there are none."""

    id: ImageId
    key: str
    load: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ImageSet:
    """`parts` are what is embedded and stored at a time; `pictures` gives the images of one of them, in order."""

    parts: tuple[Shard, ...]
    pictures: Callable[[Shard], Iterator[Picture]]


def tar_images(spec: str | Sequence[str]) -> ImageSet:
    """The images of tar shards; a part is a tar."""
    return ImageSet(tuple(list_shards(spec)), lambda shard: map(_from_tar, read_shard(shard)))


def folder_images(folder: str) -> ImageSet:
    """The image files below a folder (or an s3:// prefix), in order of their paths."""
    root = absolute(folder).rstrip("/")
    found = {file.url[len(root) + 1 :]: f"{file.size} {file.version}" for file in _files(root)}
    return _files_set(root, [(image_id(name.rpartition(".")[0]), name) for name in sorted(found)], found)


def coco_images(folder: str, annotations: str) -> ImageSet:
    """The images that a COCO annotation file lists, by its ids; those that are not in the folder become counted rows.

    Raises `VlfilterError` when the file is missing or lists no images.
    """
    root = absolute(folder).rstrip("/")
    entries = _coco_list(annotations)
    found = {file.url[len(root) + 1 :]: f"{file.size} {file.version}" for file in _files(root)}
    if not any(name in found for _, name in entries):
        first = entries[0][1]
        raise VlfilterError(f"none of the {len(entries)} images of {annotations} is in {folder}, such as {first}.")
    return _files_set(root, entries, found)


def image_set(images: Sequence[str], annotations: str | None = None) -> ImageSet:
    """Tars where the specs lead to tars, else a folder of image files, with COCO annotations or without."""
    if annotations is not None:
        if len(images) != 1:
            raise VlfilterError("COCO annotations belong to one folder of images.")
        return coco_images(images[0], annotations)
    if len(images) == 1 and _is_folder(images[0]) and not below(images[0], SUFFIXES):
        return folder_images(images[0])
    return tar_images(images)


def image_id(name: str) -> ImageId:
    """The number that a name without extension is, else the name."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 18 else name


def _from_tar(raw: RawSample) -> Picture:
    def load() -> bytes:
        if raw.problem is not None:
            raise raw.problem
        members = {member.extension: member.data for member in raw.members}
        for extension in IMAGE_EXTENSIONS:
            if extension in members:
                return members[extension]
        raise SampleError(Status.MISSING_IMAGE, f"no image among its members ({', '.join(members) or 'none'})")

    return Picture(image_id(raw.key), raw.key, load)


def _files_set(root: str, entries: Sequence[tuple[ImageId, str]], found: dict[str, str]) -> ImageSet:
    if not entries:
        raise VlfilterError(f"there are no images in {root} (looked for {', '.join(IMAGE_EXTENSIONS)}).")
    parts = []
    cut: dict[str, Sequence[tuple[ImageId, str]]] = {}
    for start in range(0, len(entries), PART):
        some = entries[start : start + PART]
        name = f"{start // PART:05d}"
        cut[name] = some
        version = digest({"images": [[number, file, found.get(file, "missing")] for number, file in some]})
        parts.append(Shard(name, root, len(some), version))

    def pictures(part: Shard) -> Iterator[Picture]:
        return (Picture(number, name, _loader(root, name)) for number, name in cut[part.name])

    return ImageSet(tuple(parts), pictures)


def _loader(root: str, name: str) -> Callable[[], bytes]:
    def load() -> bytes:
        if not inside(name):
            raise SampleError(Status.MISSING_IMAGE, f"the path {name!r} leads out of the image folder")
        try:
            return read_bytes(join(root, name))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise SampleError(Status.MISSING_IMAGE, f"there is no image {name}") from None

    return load


def _coco_list(url: str) -> list[tuple[ImageId, str]]:
    try:
        loaded = json.loads(read_bytes(url), object_hook=_without_polygons)
        entries = {int(image["id"]): str(image["file_name"]) for image in loaded["images"]}
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise VlfilterError(f"{url} is no COCO annotation file: {type(error).__name__}: {error}") from None
    if not entries:
        raise VlfilterError(f"{url} lists no images.")
    return list(entries.items())


def _without_polygons(entry: dict[str, object]) -> dict[str, object]:
    entry.pop("segmentation", None)  # most of such a file, and nothing here reads them
    return entry


def _files(root: str) -> list[Found]:
    return below(root, _SUFFIXES)


def _is_folder(url: str) -> bool:
    fs, path = filesystem(url)
    return bool(fs.isdir(path))
