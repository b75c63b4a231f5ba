"""Decoding: the same pixels as PIL, and a reason for everything that is no image."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import encode, jpeg, picture, png
from vlfilter.data.images import decode_image
from vlfilter.data.samples import SampleError, Status


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def animated_gif() -> bytes:
    file = io.BytesIO()
    picture(1).save(file, "GIF", save_all=True, append_images=[picture(2), picture(3)])
    return file.getvalue()


def palette_png_with_transparency() -> bytes:
    image = picture(3).convert("P", palette=Image.Palette.ADAPTIVE)
    return encode(image, "PNG", transparency=bytes(range(256)))


def rgba() -> Image.Image:
    image = picture(4).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


UNUSUAL = {
    "jpeg": jpeg(),
    "png": png(),
    "grey jpeg": encode(picture().convert("L")),
    "cmyk jpeg": encode(picture().convert("CMYK")),
    "palette": encode(picture().convert("P"), "PNG"),
    "palette with transparency": palette_png_with_transparency(),
    "grey with alpha": encode(rgba().convert("LA"), "PNG"),
    "rgba": encode(rgba(), "PNG"),
    "rgba webp": encode(rgba(), "WEBP", lossless=True),
    "one bit": encode(picture().convert("1"), "PNG"),
    "animated gif": animated_gif(),
    "bmp": encode(picture(), "BMP"),
    "one pixel": encode(picture(0, (1, 1)), "PNG"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_equals_pil(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")
        expected = Image.open(io.BytesIO(UNUSUAL[name])).convert("RGB")
        decoded = decode_image(UNUSUAL[name])
    assert decoded.mode == "RGB"
    assert decoded.size == expected.size
    assert np.array_equal(np.asarray(decoded), np.asarray(expected))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    decoded = np.asarray(decode_image(encode(Image.fromarray(grey), "PNG")))
    assert np.array_equal(decoded, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_exif_rotation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture(0, (32, 16)), "JPEG", exif=exif.tobytes())
    assert decode_image(data).size == (32, 16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero bytes"),
        (b"\xff\xd8\xff", "cannot be decoded|no JPEG"),
        (jpeg()[:400], "(?i)truncated"),
        (png()[:-40], "cannot be decoded"),
        (b"<html><body>404</body></html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\x80\x04\x95 a pickle", "begins with"),
        (encode(picture(), "TIFF"), "no JPEG, PNG"),
        (png_claiming(10, 10), "cannot be decoded"),
    ],
)
def test_damaged_files_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(SampleError, match=reason) as caught:
        decode_image(data)
    assert caught.value.status is Status.CORRUPT_IMAGE


@pytest.mark.parametrize("side", [9_000, 40_000, 2**31 - 1])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    with pytest.raises(SampleError, match=r"pixels|large") as caught:
        decode_image(png_claiming(side, side))
    assert caught.value.status is Status.TOO_LARGE


def test_the_limit_is_exact() -> None:
    data = png(0, (10, 10))
    assert decode_image(data, max_pixels=100).size == (10, 10)
    with pytest.raises(SampleError, match="10 x 10 pixels, the limit is 99"):
        decode_image(data, max_pixels=99)


def test_compressed_text_bombs_are_corrupt() -> None:
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 50_000_000))
    data = png()
    with pytest.raises(SampleError) as caught:
        decode_image(data[:33] + bomb + data[33:])
    assert caught.value.status is Status.CORRUPT_IMAGE


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(UNUSUAL)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 10**6),
)
def test_any_damage_gives_an_image_or_a_reason(name: str, edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(UNUSUAL[name])
    for position, value in edits:
        data[position % len(data)] = value
    try:
        outcome = decode_image(bytes(data[: cut % (len(data) + 1)]), max_pixels=1_000_000).mode
    except SampleError as error:
        outcome = error.status
    assert outcome in ("RGB", Status.CORRUPT_IMAGE, Status.TOO_LARGE)
