"""Bytes → RGB, safely: the header decides before anything is decoded, and every failure is a reason, not a crash."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlfilter.data.samples import SampleError, Status

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 64_000_000

# PIL warns about palettes with transparency, odd EXIF and large images, once a file. What matters becomes a reason.
# The filter is set once for the process: `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file to RGB, 8 bits a channel, first frame only; the content decides, not the file's name.

    Equal to PIL's `Image.open(…).convert("RGB")`, as webdataset's "pilrgb" and the published scripts decode: alpha is
    dropped, CMYK goes by PIL's formula, EXIF rotation is not applied. One exception: 16-bit grey is scaled to 8 bits,
    where PIL would clip nearly all of it to white. Raises `SampleError`: TOO_LARGE when the header promises more than
    `max_pixels`, CORRUPT_IMAGE when the bytes are none of `FORMATS`, cut short or damaged.
    """
    if not data:
        raise SampleError(Status.CORRUPT_IMAGE, "the image has zero bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise SampleError(
                    Status.TOO_LARGE, f"the image has {width} x {height} pixels, the limit is {max_pixels}"
                )
            rgb = _to_rgb(image)
    except SampleError:
        raise
    except Image.DecompressionBombError as error:
        raise SampleError(Status.TOO_LARGE, f"the image is too large: {error}") from None
    except UnidentifiedImageError:
        raise SampleError(Status.CORRUPT_IMAGE, f"no {', '.join(FORMATS)} image: it {_begins(data)}") from None
    except MemoryError:
        raise SampleError(Status.TOO_LARGE, "the image does not fit into memory") from None
    except Exception as error:  # PIL's plugins raise nearly every class there is on damaged files
        raise SampleError(
            Status.CORRUPT_IMAGE, f"the image cannot be decoded: {error or type(error).__name__}"
        ) from None
    rgb.info = {}  # profiles and EXIF may be megabytes and nothing reads them
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: "I;16", "I;16B", or "I" in older releases of PIL
        high = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(high.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _begins(data: bytes) -> str:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return f"begins like {'an SVG' if b'svg' in start else 'a web page'}"
    return f"begins with {data[:8]!r}"
