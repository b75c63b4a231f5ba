"""The queries: a type, bad cases of it and a new image each. Two ways: one that always ends, and the original's draws.

Every second query takes an image among those most like the first bad case's, the others any image. No image twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vlfilter.data.aokvqa import VqaRow
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.anchors import Around, Neighbours, anchor_name
from vlfilter.methods.data_engine.image_info import FactBook, ImageFacts
from vlfilter.methods.data_engine.sampling import Cases, TypePlan
from vlfilter.retrieval.index import ImageId, ImageIndex

RETRIEVAL, UNIFORM = "retrieval", "uniform"
MAX_BOXES = 10  # an image with more is too crowded for unambiguous questions
STALLED = 1000  # rejected draws in a row after which the replay looks whether there is anything left to draw


@dataclass(frozen=True, slots=True)
class Query:
    """What one question is asked for. `cosine` is that of image and anchor where the image was retrieved; `reason`
    tells why it was not, though it should have been."""

    image: ImageId
    question_type: str
    examples: tuple[VqaRow, ...]
    how: str
    cosine: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Drawn:
    """The queries in order; `ended` is why there are fewer than wanted, `images` counts the set's images by use."""

    queries: tuple[Query, ...]
    images: Mapping[str, int] = field(default_factory=dict)
    ended: str | None = None


def unusable(facts: ImageFacts | None, max_boxes: int | None) -> str | None:
    """Why no question can be asked about an image, if so."""
    if facts is None:
        return "not in the annotations"
    if max_boxes is not None and len(facts.boxes) > max_boxes:
        return f"more than {max_boxes} boxes"
    if not (facts.captions or facts.boxes or facts.regions or facts.ocr):
        return "neither captions nor boxes"
    return None


class Pool:
    """The images that may still be drawn. Drawing and removing take the same time however many there are."""

    def __init__(self, images: Sequence[ImageId]):
        self._images = list(images)
        self._place = {image: place for place, image in enumerate(self._images)}

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, image: ImageId) -> bool:
        return image in self._place

    def any(self, rng: random.Random) -> ImageId:
        return self._images[rng.randrange(len(self._images))]

    def remove(self, image: ImageId) -> None:
        place, last = self._place.pop(image), self._images.pop()
        if last != image:
            self._images[place] = last
            self._place[last] = place


def draw_queries(
    cases: Cases,
    plan: TypePlan,
    index: ImageIndex,
    book: FactBook,
    around: Around | None,
    *,
    wanted: int,
    examples: int,
    seed: int,
    max_boxes: int | None = MAX_BOXES,
    excluded: Collection[ImageId] = (),
) -> Drawn:
    """Up to `wanted` queries with `examples` bad cases each; a query depends on the seed, its number, and the images
    used before.

    `around` holds the anchors' neighbours, None for no retrieval. Where an anchor has none, or all of them are used,
    the image is any one, and the query says so. Images that cannot be used are set aside beforehand and counted, so
    that the loop ends: with `wanted` queries, or with the last usable image.
    """
    images: Counter[str] = Counter()
    usable: list[ImageId] = []
    barred = set(excluded)
    for image in index.ids:
        why = "excluded" if image in barred else unusable(book.facts.get(image), max_boxes)
        images[why or "usable"] += 1
        if why is None:
            usable.append(image)
            images["usable, without captions"] += not book.facts[image].captions and not book.facts[image].regions
            images["usable, without boxes"] += not book.facts[image].boxes and not book.facts[image].regions
    pool = Pool(usable)
    queries: list[Query] = []
    ended = None
    for number in range(wanted):
        if not len(pool):
            told = ", ".join(f"{count} {why}" for why, count in sorted(images.items()) if count)
            ended = f"{number} of {wanted} queries: no usable image is left ({told})"
            break
        rng = random.Random(f"{seed}:{number}")  # noqa: S311
        kind = plan.draw(rng)
        shown = tuple(rng.sample(cases[kind], examples))
        query = None
        reason = None
        if around is not None and number % 2 == 0:
            query, reason = _retrieved(kind, shown, around[anchor_name(shown[0])], index, pool, rng)
        if query is None:
            query = Query(pool.any(rng), kind, shown, UNIFORM, reason=reason)
        pool.remove(query.image)
        queries.append(query)
    return Drawn(tuple(queries), {why: count for why, count in images.items() if count}, ended)


def _retrieved(
    kind: str,
    shown: tuple[VqaRow, ...],
    near: Neighbours | str,
    index: ImageIndex,
    pool: Pool,
    rng: random.Random,
) -> tuple[Query | None, str | None]:
    """A query with an unused neighbour of the anchor, or None and why there is none."""
    if isinstance(near, str):
        return None, f"no anchor: {near}"
    # in order of row: the choice depends on which images are near, not on the last digits of their cosines
    left = sorted((int(row), place) for place, row in enumerate(near.rows) if index.ids[row] in pool)
    if not left:
        return None, f"all {len(near.rows)} images near the anchor are used or unusable"
    row, place = left[rng.randrange(len(left))]
    return Query(index.ids[row], kind, shown, RETRIEVAL, float(near.cosine[place])), None


def replay_queries(
    cases: Cases,
    weights: Mapping[str, float] | None,
    index: ImageIndex,
    book: FactBook,
    around: Around,
    *,
    wanted: int,
    seed: int,
    excluded: Collection[ImageId] = (),
) -> Drawn:
    """The original's draws in its order, after `random.seed(seed)` and `torch.manual_seed(seed)`.

    A type that cannot be used is drawn and dropped, an image with too many boxes is used up. Where the original would
    fail or go on for ever this ends with a reason: no usable type, no image left to draw, more neighbours asked for
    than there are images, an anchor that cannot be read (then any image is drawn).
    """
    import torch

    rng = random.Random(seed)  # noqa: S311
    generator = torch.Generator().manual_seed(seed)
    given = dict.fromkeys(cases, 1.0) if weights is None else weights
    if missing := [kind for kind in cases if kind not in given]:
        raise VlfilterError(f"there is no weight for {', '.join(missing)}.")
    types = list(cases)
    type_weights = [given[kind] for kind in types]
    if not any(len(cases[kind]) >= 2 and given[kind] > 0 for kind in types):
        raise VlfilterError("no question type has a weight above zero and two bad cases.")
    used: set[ImageId] = set(excluded)
    images: Counter[str] = Counter()
    queries: list[Query] = []
    rejected = 0
    while len(queries) < wanted:
        if (
            rejected >= STALLED
            and rejected % STALLED == 0
            and not _reachable(cases, given, index, around, used, queries)
        ):
            return Drawn(tuple(queries), images, f"{len(queries)} of {wanted} queries: no image is left to draw")
        rejected += 1
        kind = rng.choices(types, type_weights, k=1)[0]
        if len(cases[kind]) < 2:
            continue
        first, second = rng.sample(cases[kind], 2)
        near = around[anchor_name(first)] if len(queries) % 2 == 0 else None
        cosine = reason = None
        if isinstance(near, Neighbours):
            place = int(torch.randperm(len(near.rows), generator=generator)[0])
            image, cosine = index.ids[near.rows[place]], float(near.cosine[place])
        else:
            image = rng.choice(index.ids)
            reason = f"no anchor: {near}" if near else None
        if image in used:
            continue
        used.add(image)
        facts = book.facts.get(image)
        if facts is None or len(facts.boxes) > MAX_BOXES:
            images[str(unusable(facts, MAX_BOXES))] += 1
            continue
        images["usable"] += 1
        how = RETRIEVAL if cosine is not None else UNIFORM
        queries.append(Query(image, kind, (first, second), how, cosine, reason))
        rejected = 0
    return Drawn(tuple(queries), images)


def _reachable(
    cases: Cases,
    weights: Mapping[str, float],
    index: ImageIndex,
    around: Around,
    used: Collection[ImageId],
    queries: Sequence[Query],
) -> bool:
    """Whether the next draw can find an image that is not used up."""
    if len(queries) % 2 == 1:
        return len(set(index.ids) - set(used)) > 0
    drawn = [row for kind, rows in cases.items() if weights[kind] > 0 and len(rows) >= 2 for row in rows]
    for name in {anchor_name(row) for row in drawn}:
        near = around[name]
        rows = range(len(index)) if isinstance(near, str) else near.rows
        if any(index.ids[row] not in used for row in rows):
            return True
    return False
