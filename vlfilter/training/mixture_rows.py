"""The rows of a mixture's data sets as conversations, and what was left out of each, with the reason."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlfilter.data.annotations import Instruction, Turn, read_instructions
from vlfilter.data.schemas import SCHEMAS
from vlfilter.data.schemas.base import Example, How, LeftOutError
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import IMAGE_PLACEHOLDER
from vlfilter.training.mixture import MixtureEntry
from vlfilter.training.mixture_aokvqa import read_aokvqa
from vlfilter.training.mixture_files import DatasetRows, read_json, sampled

# MiniGPT-4's questions of its second stage, one of which stands before each caption
CAPTION_QUESTIONS = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)


def read_dataset(entry: MixtureEntry, seed: int) -> DatasetRows:
    """The rows of an entry. `seed` decides whatever is drawn: `sample_num`'s choice, wordings and answers; a row's
    draws depend on the seed, the data set's name and the row's place in the file alone.

    Raises `VlfilterError` for a file that is missing or of another form.
    """
    if entry.kind == "aokvqa":
        return read_aokvqa(entry, seed)
    filtered: Mapping[str, int] = {}
    if entry.kind == "llava":
        rows, unreadable = _llava(entry)
    elif entry.kind == "captions":
        rows, unreadable = _captions(entry, seed)
    else:
        rows, unreadable, filtered = _worded(entry, seed)
    kept, aside = sampled(rows, entry, seed)
    return DatasetRows(kept, unreadable, filtered, aside)


def _worded(entry: MixtureEntry, seed: int) -> tuple[list[Instruction], list[str], Mapping[str, int]]:
    """Rows of the kinds in `SCHEMAS`, which all go the same way: said by the file, worded by a template."""
    schema = SCHEMAS[entry.kind]
    rows, unreadable, filtered = [], [], Counter[str]()
    number, told = 0, None
    try:
        for number, told in enumerate(schema.entries(entry.files)):
            how = How(entry.mode, f"{seed} {entry.name} {number}")
            try:
                example = schema.example(told, how)
                rows.append(instruction(entry, example, how.key, f"{entry.name}-{number}"))
            except LeftOutError as reason:
                filtered[str(reason)] += 1
            except ValueError as error:
                unreadable.append(f"row {number} ({_name(told)}): {error}")
    except VlfilterError as error:
        raise VlfilterError(f"data set {entry.name}: {error}") from None
    return rows, unreadable, filtered


def instruction(entry: MixtureEntry, example: Example, key: str, name: str) -> Instruction:
    """An example in the entry's words. `key` decides what is drawn, `name` is the id of a row that has none.

    Raises `LeftOutError` and `ValueError`.
    """
    if entry.image_contains and entry.image_contains not in str(example.image):
        raise LeftOutError(f"its image's path has no {entry.image_contains!r}")
    image = None if example.image is None else entry.image_file(example.image)
    asked = draw(example.asked, f"{key} asked")
    template = draw(entry.templates, f"{key} template")
    common = entry.answer == "most_common"
    said = Counter(example.answers).most_common(1)[0][0] if common else draw(example.answers, f"{key} answer")
    first = template.replace("{}", asked, 1)
    pairs = [(first if image is None else f"{IMAGE_PLACEHOLDER}\n{first}", said), *example.later]
    turns = [turn for question, answer in pairs for turn in (Turn("human", question), Turn("gpt", answer))]
    return Instruction(example.id or name, tuple(turns), image)


def draw(texts: Sequence[str], key: str) -> str:
    """One of some texts, each with the same probability over all keys, and always the same for one key."""
    if len(texts) == 1:
        return texts[0]
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    return texts[number % len(texts)]


def _llava(entry: MixtureEntry) -> tuple[list[Instruction], list[str]]:
    (url,) = entry.files
    try:
        return read_instructions(url)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url} (data set {entry.name}).") from None


def _captions(entry: MixtureEntry, seed: int) -> tuple[list[Instruction], list[str]]:
    """cc_sbu_align's file: `{"annotations": [{"image_id", "caption"}]}`, the image being `{image_id}.jpg`."""
    found = read_json(entry)
    entries = found.get("annotations") if isinstance(found, dict) else found
    if not isinstance(entries, list):
        raise VlfilterError(f"{entry.data} has no list of captions (schema captions).")
    rows, bad = [], []
    for number, told in enumerate(entries):
        name = told.get("image_id") if isinstance(told, dict) else None
        caption = told.get("caption") if isinstance(told, dict) else None
        image = told.get("image", f"{name}.jpg") if isinstance(told, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(image, str):
            bad.append(f"row {number} (without id): it names no image")
        elif not isinstance(caption, str) or not caption.strip():
            bad.append(f"row {number} ({name}): it has no caption")
        else:
            asked = CAPTION_QUESTIONS[zlib.crc32(f"{seed} {number}".encode()) % len(CAPTION_QUESTIONS)]
            turns = (Turn("human", f"{IMAGE_PLACEHOLDER}\n{asked}"), Turn("gpt", caption))
            rows.append(Instruction(str(name), turns, image))
    return rows, bad


def _name(told: Any) -> str:
    """What people find an entry by."""
    known = told if isinstance(told, dict) else {}
    for name in ("question_id", "id", "ref_id", "region_id", "image_id", "image"):
        if isinstance(known.get(name), str | int):
            return str(known[name])[:80]
    return "without id"
