"""Deterministic shards for the benchmarks: JPEG pairs of about 38 kB, cut from photographs that ship with libraries."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path

from PIL import Image

from benchmarks.harness import cache_folder

VERSION = 1  # raised when the data would come out different
SAMPLES = 1000
_PHOTOS = {
    "skimage.data": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png",
                     "motorcycle_left.png"),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}  # fmt: skip
_WORDS = """
    a the of in on with and photo picture view old young red blue green small large city street mountain river cat
    astronaut rocket coffee cup table temple flower garden galaxy night morning bright dark wooden stone portrait
    vintage summer winter sale free shipping 2019 official design handmade travel guide best new home kitchen
""".split()  # noqa: SIM905 - readable


@cache
def _photographs() -> list[Image.Image]:
    found = []
    for package, names in _PHOTOS.items():
        top, _, rest = package.partition(".")
        for name in names:
            with files(top).joinpath(*rest.split("."), name).open("rb") as file:
                found.append(Image.open(file).convert("RGB"))
    return found


def _jpeg(rng: random.Random) -> tuple[bytes, int, int]:
    """A piece of a photograph at a web image's size, as JPEG, with its width and height."""
    photo = rng.choice(_photographs())
    width, height = rng.choice(((400, 300), (512, 384), (384, 512), (448, 336), (512, 512), (512, 340), (340, 512)))
    scale = rng.uniform(0.55, 1.0) * min(photo.width / width, photo.height / height)
    across, down = int(width * scale), int(height * scale)
    left, top = rng.randint(0, photo.width - across), rng.randint(0, photo.height - down)
    piece = photo.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + across, top + down))
    buffer = io.BytesIO()
    piece.save(buffer, "JPEG", quality=rng.randint(75, 94))
    return buffer.getvalue(), width, height


def _caption(rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=max(3, round(rng.gauss(11, 5)))))


def _write_shard(path: Path, number: int, samples: int) -> None:
    rng = random.Random(f"{VERSION} {number}")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(samples):
            key = f"{number:05d}{index:04d}"
            jpeg, width, height = _jpeg(rng)
            caption = _caption(rng)
            record = {"uid": f"{rng.getrandbits(128):032x}", "caption": caption, "width": width, "height": height,
                      "url": f"https://example.org/{key}.jpg", "key": key, "status": "success"}  # fmt: skip
            add_sample(tar, key, {"jpg": jpeg, "txt": caption.encode(), "json": json.dumps(record).encode()})


def add_sample(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    for extension, data in members.items():
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def make_shards(shards: int, samples: int = SAMPLES) -> Path:
    """A folder with `shards` tars of `samples` pairs each, 00000000.tar and so on; made once."""
    folder = cache_folder() / f"shards-v{VERSION}-{shards}x{samples}"
    if folder.is_dir():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with ProcessPoolExecutor(min(shards, len(os.sched_getaffinity(0)))) as pool:
        paths = [unfinished / f"{number:08d}.tar" for number in range(shards)]
        list(pool.map(_write_shard, paths, range(shards), [samples] * shards))
    unfinished.rename(folder)
    return folder


def repeat_shards(source: Path, times: int, target: Path) -> Path:
    """`target` with each tar of `source` `times` times, under new names; hard links, so they cost no space."""
    tars = sorted(source.glob("*.tar"))
    target.mkdir(parents=True)
    for number in range(times * len(tars)):
        os.link(tars[number % len(tars)], target / f"{number:08d}.tar")
    return target


def describe_shards(folder: Path) -> dict[str, float]:
    """How many, how large, for the result's file."""
    tars = sorted(folder.glob("*.tar"))
    with tarfile.open(tars[0]) as tar:
        jpegs = [member.size for member in tar if member.name.endswith(".jpg")]
    size = sum(tar.stat().st_size for tar in tars)
    return {"shards": len(tars), "samples_a_shard": len(jpegs), "tar_mb": round(size / 1e6, 1),
            "mean_jpeg_kb": round(sum(jpegs) / len(jpegs) / 1e3, 1)}  # fmt: skip
