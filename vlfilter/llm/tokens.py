"""How many tokens a request takes: a fair guess for the dry run and the rate limit, a bound for the budget."""

from __future__ import annotations

import json
import math
import re
from io import BytesIO

from PIL import Image as PilImage

from vlfilter.llm.types import Image, Request

FRAME = 128  # roles, separators, and what a vendor adds to every message
SCHEMA_FRAME = 600  # the vendor's own instruction for structured output
_TILED = re.compile(r"gpt-4o|gpt-4-turbo|gpt-4-vision|gpt-4\.5|chatgpt-4o|o1|o3$|o3-\d")


def input_tokens(request: Request, model: str, repair: str = "") -> int:
    """An estimate: four bytes a token, which fits English prose."""
    return math.ceil(_bytes(request, repair) / 4) + _frames(request) + _images(request, model)


def most_input_tokens(request: Request, model: str, repair: str = "") -> int:
    """No tokenizer makes more: a byte-level token holds at least a byte. Images by the vendor's rule for their size."""
    return _bytes(request, repair) + _frames(request) + _images(request, model)


def _bytes(request: Request, repair: str) -> int:
    schema = json.dumps(request.schema) if request.schema is not None else ""
    texts = (request.prompt, request.system or "", schema, repair)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _frames(request: Request) -> int:
    return FRAME + (SCHEMA_FRAME if request.schema is not None else 0)


def _images(request: Request, model: str) -> int:
    return sum(image_tokens(image, model) for image in request.images)


def image_tokens(image: Image, model: str) -> int:
    """Tokens of one image at the highest detail that the vendor would choose by itself.

    Sources: the vendors' guides on vision. OpenAI's older models tile (fit into 2048 × 2048, then shorter side 768,
    tiles of 512), newer ones count patches of 32 × 32; Claude takes width · height / 750 after its own downscaling.
    Other servers: patches of 14 × 14, and never less than LLaVA-NeXT's 2,880.
    """
    width, height = _size(image)
    if model.startswith("claude"):
        scale = min(1.0, 2576 / max(width, height))
        return math.ceil(width * scale * height * scale / 750) + 8
    if _TILED.match(model):
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        tiles = math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
        return 2833 + 5667 * tiles if model.startswith("gpt-4o-mini") else 85 + 170 * tiles
    if model.startswith(("gpt-", "o1", "o3", "o4")):
        most, factor = (1536, 2.46) if model.startswith(("gpt-4.1", "gpt-5-", "o4")) else (10_000, 2.46)
        return math.ceil(min(math.ceil(width / 32) * math.ceil(height / 32), most) * factor)
    return max(2880, math.ceil(width / 14) * math.ceil(height / 14))


def _size(image: Image) -> tuple[int, int]:
    """Width and height by the file's header; the largest that vendors keep where it cannot be read."""
    try:
        with PilImage.open(BytesIO(image.data)) as opened:
            width, height = opened.size
    except Exception:  # a damaged file is the vendor's to reject
        return 2576, 2576
    return max(width, 1), max(height, 1)
