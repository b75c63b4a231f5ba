"""Parts for tests: small images, samples and tars, made on the spot and the same on every run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Samples = Iterable[tuple[str, Mapping[str, bytes]]]


def picture(seed: int = 0, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """A smooth RGB image that differs with `seed`; `size` is (width, height)."""
    rows = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(rows).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str = "JPEG", **options: int | bool | bytes) -> bytes:
    """The file of an image, e.g. `encode(picture().convert("CMYK"))` or `encode(picture(), "PNG")`."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(seed: int = 0, size: tuple[int, int] = (32, 24), quality: int = 90) -> bytes:
    return encode(picture(seed, size), "JPEG", quality=quality)


def png(seed: int = 0, size: tuple[int, int] = (32, 24)) -> bytes:
    return encode(picture(seed, size), "PNG")


def noise_jpeg(seed: int = 0, size: tuple[int, int] = (400, 300), quality: int = 60) -> bytes:
    """A JPEG that does not compress well: about 38 kB as it stands."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 3, size[0] // 3, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), "JPEG", quality=quality)


def uid_of(text: str) -> str:
    """32 hex digits from any text, as DataComp's uids look."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def pair(key: str, caption: str | None = None, image: bytes | None = None, uid: str | None = None) -> dict[str, bytes]:
    """The members of an image-text sample as img2dataset writes them: jpg, txt and json with uid and caption."""
    caption = f"a picture called {key}" if caption is None else caption
    seed = int(uid_of(key)[:8], 16)
    fields = {"uid": uid or uid_of(key), "key": key, "caption": caption, "status": "success"}
    return {
        "jpg": jpeg(seed) if image is None else image,
        "txt": caption.encode(),
        "json": json.dumps(fields).encode(),
    }


def pairs(count: int, start: int = 0) -> list[tuple[str, dict[str, bytes]]]:
    """Samples with keys 000000000, 000000001, …"""
    return [(f"{i:09d}", pair(f"{i:09d}")) for i in range(start, start + count)]


def document(texts: Sequence[str | None], images: Sequence[bytes | None], **fields: str) -> dict[str, bytes]:
    """The members of an OBELICS-style document: one json; `images[i]` is an image file or None."""
    info = [None if image is None else {"image_base64": base64.b64encode(image).decode()} for image in images]
    return {"json": json.dumps({"texts": list(texts), "image_info": info, **fields}).encode()}


def tar_bytes(samples: Samples, format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar as bytes, members in the given order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def make_tar(path: str | Path, samples: Samples, format: int = tarfile.USTAR_FORMAT) -> Path:
    """Write a tar of `(key, {extension: bytes})` samples; returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(samples, format))
    return path


def make_shards(folder: str | Path, shards: int, samples: int) -> list[Path]:
    """`folder`/00000.tar, 00001.tar, … with `samples` pairs each and keys that go on from shard to shard."""
    return [make_tar(Path(folder) / f"{i:05d}.tar", pairs(samples, i * samples)) for i in range(shards)]


def until(met: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that another thread, process or server does; fails with `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not {what} after {seconds:.0f} s"
        time.sleep(0.05)
