"""Members of a sample → content that a scorer can use, or the reason why there is none."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vlfilter.data.images import MAX_PIXELS, decode_image
from vlfilter.data.samples import ImageText, Interleaved, Member, RawSample, Sample, SampleError, Status

# webdataset's "jpg;png;jpeg;webp" of the published scripts, in their order, then what else can be decoded
IMAGE_EXTENSIONS = ("jpg", "png", "jpeg", "webp", "gif", "bmp")
_UID = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sample may cost: pixels of one image and of all images of a document, characters of text, slots."""

    max_pixels: int = MAX_PIXELS
    max_document_pixels: int = 2 * MAX_PIXELS
    max_caption_chars: int = 1_000_000
    max_slots: int = 10_000


def decode_sample(raw: RawSample, limits: Limits = Limits()) -> Sample:
    """Decode a sample; never raises. `problem` tells what is wrong, and `content` is None exactly then.

    An image with a caption (`.txt`, else json `caption`, else json `text`), or an OBELICS-style document (json with
    `texts` and `image_info`), which goes before the image. Images keep their size; captions are as stored.
    """
    record = _Json(raw)
    uid = _uid(raw, record)
    if raw.problem is not None:
        return Sample(raw.key, uid, None, raw.problem)
    try:
        return Sample(raw.key, uid, _content(raw, record, limits))
    except SampleError as problem:
        return Sample(raw.key, uid, None, problem)
    except Exception as error:  # one odd sample must not end a shard
        return Sample(raw.key, uid, None, SampleError(Status.FAILED, f"decoding: {type(error).__name__}: {error}"))


@dataclass(frozen=True, slots=True)
class Pair:
    """An image-text sample as stored: `image` is the member that holds the image's file, not decoded."""

    uid: str
    image: Member
    caption: str


def read_pair(raw: RawSample, limits: Limits = Limits()) -> Pair:
    """A sample's image file and caption, chosen as `decode_sample` does. Raises `SampleError` for all that is no pair.

    Whether the image can be decoded is not looked at.
    """
    if raw.problem is not None:
        raise raw.problem
    record = _Json(raw)
    if record.has("image_info"):
        raise _unsupported("an interleaved document, not one image with its caption")
    image, caption = _pair(raw, record, limits)
    return Pair(_uid(raw, record), image, caption)


def sample_uid(raw: RawSample) -> str:
    """The sample's id, 32 hex digits: json `uid` if it is one (DataComp), in lower case, else derived.

    Derived: BLAKE2b-128 over the key and every member's extension and bytes in order, each preceded by its length as
    8 little-endian bytes. The same content under another key is another sample.
    """
    return _uid(raw, _Json(raw))


class _Json:
    """The sample's json member, parsed at most once. `value` is None where there is none or it is broken."""

    def __init__(self, raw: RawSample):
        data = next((m.data for m in raw.members if m.extension == "json"), None)
        self.missing = data is None
        self.value: Any = None
        self.error = ""
        if data is None:
            return
        try:
            self.value = json.loads(data)
        except RecursionError:
            self.error = "nested too deeply"
        except ValueError as error:  # syntax, encoding, and integers of more than 4300 digits
            self.error = str(error)

    def get(self, name: str) -> Any:
        return self.value.get(name) if isinstance(self.value, dict) else None

    def has(self, name: str) -> bool:
        return isinstance(self.value, dict) and name in self.value

    def check(self) -> None:
        """Raise when the json is there but no object; for callers that need it."""
        if self.error:
            raise _unsupported(f"the json is broken: {self.error}")
        if not self.missing and not isinstance(self.value, dict):
            raise _unsupported(f"the json holds {_kind(self.value)}, not an object")


def _uid(raw: RawSample, record: _Json) -> str:
    uid = record.get("uid")
    if isinstance(uid, str) and _UID.fullmatch(uid):
        return uid.lower()
    state = hashlib.blake2b(digest_size=16)
    for part in (raw.key.encode(), *(p for m in raw.members for p in (_utf8(m.extension), m.data))):
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def _content(raw: RawSample, record: _Json, limits: Limits) -> ImageText | Interleaved:
    if record.has("image_info"):
        return _document(record, limits)
    image, caption = _pair(raw, record, limits)
    return ImageText(decode_image(image.data, limits.max_pixels), caption)


def _pair(raw: RawSample, record: _Json, limits: Limits) -> tuple[Member, str]:
    """The image, not decoded, and the caption of a sample that is no document."""
    members = {m.extension: m for m in raw.members}
    image = next((members[e] for e in IMAGE_EXTENSIONS if e in members), None)
    if image is None:
        if record.has("texts"):
            raise _unsupported("the document has `texts` but no `image_info`")
        if "txt" not in members:
            record.check()
        raise SampleError(Status.MISSING_IMAGE, f"no image among its members ({', '.join(members) or 'none'})")
    caption = _caption(members["txt"].data if "txt" in members else None, record)
    if len(caption) > limits.max_caption_chars:
        raise SampleError(
            Status.TOO_LARGE, f"the caption has {len(caption)} characters, the limit is {limits.max_caption_chars}"
        )
    return image, caption


def _caption(txt: bytes | None, record: _Json) -> str:
    if txt is not None:
        try:
            caption: Any = txt.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _unsupported(f"the caption is not UTF-8: {error}") from None
    else:
        record.check()
        caption = record.get("caption")
        caption = record.get("text") if caption is None else caption
    if caption is None:
        raise SampleError(Status.MISSING_TEXT, "no caption: neither a .txt nor `caption` or `text` in a .json")
    if not isinstance(caption, str):
        raise _unsupported(f"the caption is {_kind(caption)}, not text")
    if not caption.strip():
        raise SampleError(Status.MISSING_TEXT, "the caption is empty")
    return _clean(caption)


def _document(record: _Json, limits: Limits) -> Interleaved:
    texts, slots = record.get("texts"), record.get("image_info")
    if not isinstance(texts, list) or not isinstance(slots, list):
        raise _unsupported(f"`texts` is {_kind(texts)} and `image_info` {_kind(slots)}; both should be lists")
    if len(texts) != len(slots):
        raise _unsupported(f"`texts` has {len(texts)} entries, `image_info` {len(slots)}")
    if len(texts) > limits.max_slots:
        raise SampleError(Status.TOO_LARGE, f"the document has {len(texts)} slots, the limit is {limits.max_slots}")
    for i, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise _unsupported(f"texts[{i}] is {_kind(text)}, neither text nor null")
    characters = sum(len(text) for text in texts if text)
    if characters > limits.max_caption_chars:
        why = f"the document has {characters} characters, the limit is {limits.max_caption_chars}"
        raise SampleError(Status.TOO_LARGE, why)
    images: list[Image.Image | None] = []
    broken: list[str | None] = []
    left = limits.max_document_pixels
    for text, slot in zip(texts, slots, strict=True):
        image: Image.Image | None = None
        reason: str | None = None
        if text is None:
            try:
                image = _slot_image(slot, min(left, limits.max_pixels))
                left -= image.width * image.height
            except SampleError as error:
                reason = error.reason
        elif slot is not None:
            reason = "the slot holds a text too; the text is kept"
        images.append(image)
        broken.append(reason)
    return Interleaved(tuple(_clean(t) if t else t for t in texts), tuple(images), tuple(broken))


def _slot_image(slot: Any, max_pixels: int) -> Image.Image:
    """The image of a slot. Raises `SampleError` with the reason why there is none."""
    if slot is None:
        raise SampleError(Status.MISSING_IMAGE, "neither a text nor an image")
    data = slot.get("image_base64") if isinstance(slot, dict) else None
    if not isinstance(data, str) or not data:
        raise SampleError(Status.MISSING_IMAGE, "no image_base64 in the slot")
    try:
        image = decode_image(base64.b64decode(data), max_pixels)
    except ValueError as error:  # binascii.Error, and characters beyond ASCII
        raise SampleError(Status.CORRUPT_IMAGE, f"image_base64 is not base64: {error}") from None
    if 1 in image.size:  # as the published script: such images and their slots are left out
        raise SampleError(Status.UNSUPPORTED, "the image is 1 pixel wide or high")
    return image


def _clean(text: str) -> str:
    """Text that can be encoded: json allows half a surrogate pair, tokenizers and Parquet do not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _unsupported(reason: str) -> SampleError:
    return SampleError(Status.UNSUPPORTED, reason)
