"""Step 2: bad cases, weights and an image index in; prompts for a teacher out, in the published file's form.

Beside `gptvqa_prompt.json` lies `gptvqa_prompt.parquet` with a row for each query (type, image, how it was chosen, the
in-context bad cases), and a receipt with what made them and the counts. The same input gives the same bytes.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vlfilter.data.aokvqa import BadRow, VqaRow, by_type, parse_rows, write_json
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.storage import absolute, check_writable, read_bytes
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.anchors import Around, anchor_files, anchor_name, anchor_vectors, neighbours
from vlfilter.methods.data_engine.image_info import FactBook, ImageFacts, read_coco, read_regions
from vlfilter.methods.data_engine.prompt import prompt_v1, prompt_v2
from vlfilter.methods.data_engine.queries import MAX_BOXES, Drawn, Query, draw_queries, replay_queries
from vlfilter.methods.data_engine.query_table import query_table_url, write_query_table
from vlfilter.methods.data_engine.question_types import definition_of
from vlfilter.methods.data_engine.sampling import Cases, TypePlan, deduplicate, plan_types
from vlfilter.methods.data_engine.weights import read_weights, v2_weights
from vlfilter.models.clip_source import clip_source
from vlfilter.retrieval.embed import EmbedSettings
from vlfilter.retrieval.index import ImageId, ImageIndex
from vlfilter.retrieval.store import open_index

CODE_VERSION = 1  # raised by whoever changes a prompt
ALIKE = 0.9  # the later paper's threshold for bad cases that say the same
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class QueryInputs:
    """Files and folders: `bad_cases` from step 1 (by type, or a list), `index` (a folder, or `coco_image.pth`),
    `weights` (none: all types alike). `bad_case_images` is the folder that their image paths start from; without it
    only anchors that are in the index have neighbours. `exclude` are earlier rounds' prompt files: their images are
    not taken again. Facts are COCO's `captions` and `instances`, or Visual Genome's `regions` with `image_data`, and
    lines of text in `ocr`."""

    bad_cases: str
    index: str
    weights: str | None = None
    captions: str | None = None
    instances: str | None = None
    regions: str | None = None
    image_data: str | None = None
    ocr: str | None = None
    bad_case_images: str | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """`version` is `v1` (2 examples, error rate, half of the images retrieved, at most 10 boxes) or `v2` (10 examples,
    its square root, no near-duplicate bad cases, images at random). `compat` repeats the original's random draws and
    the released script's indentation. `model` embeds the bad cases' images: else the one that the index names."""

    version: Literal["v1", "v2"] = "v1"
    maxnum: int = 6000
    topk: int = 1000
    seed: int = 0
    examples: int | None = None
    compat: bool = False
    model: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.version not in ("v1", "v2"):
            raise VlfilterError(f"version {self.version!r}: v1 or v2.")
        if self.maxnum < 1 or self.topk < 1:
            raise VlfilterError("maxnum and topk must be at least 1.")
        if self.version == "v1" and self.shown != 2:
            raise VlfilterError("the published prompt (v1) shows two bad cases: --examples is for v2.")
        if self.shown < 1:
            raise VlfilterError("examples must be at least 1.")
        if self.compat and self.version != "v1":
            raise VlfilterError("compat repeats the released scripts, which are v1.")

    @property
    def shown(self) -> int:
        return self.examples if self.examples is not None else 2 if self.version == "v1" else 10


def build_queries(
    inputs: QueryInputs, output: str, settings: QuerySettings, tell: Told | None = None
) -> dict[str, Any]:
    """Write the queries to `output` (a .json) and return the counts; nothing is done when they are there already.

    Raises `VlfilterError` when an input is missing or damaged, no type can be asked about, or no image can be used.
    """
    if not output.endswith(".json"):
        raise VlfilterError(f"{output}: the queries are written to a .json file.")
    check_writable(output.rpartition("/")[0] or ".")
    index = open_index(inputs.index)
    cases, bad_rows = read_cases(inputs.bad_cases)
    rows = [row for some in cases.values() for row in some]
    files = anchor_files(rows, inputs.bad_case_images)
    embed = EmbedSettings(settings.model or index.model, device=settings.device)
    parts = _parts(inputs, settings, index, digest({n: f and [f.size, f.version] for n, f in files.items()}), embed)
    if (done := finished(output, parts)) is not None and exists(query_table_url(output)):
        return done
    weights = None if inputs.weights is None else read_weights(inputs.weights)
    if settings.version == "v2":
        rng = random.Random(settings.seed)  # noqa: S311
        cases = {kind: deduplicate(some, ALIKE, rng) for kind, some in cases.items()}
        weights = weights and v2_weights(weights)
    plan = plan_types(cases, weights, settings.shown)
    book = _facts(inputs)
    around = None
    if settings.version == "v1":
        usable = [row for kind in plan.types for row in cases[kind]]
        if tell:
            tell(f"looking for the images near {len({anchor_name(row) for row in usable})} bad cases' images")
        vectors = anchor_vectors(usable, index, {anchor_name(row): files[anchor_name(row)] for row in usable}, embed)
        around = neighbours(vectors, index, settings.topk)
    drawn = _draw(cases, plan, weights, index, book, around, settings, _excluded(inputs.exclude))
    if not drawn.queries:
        raise VlfilterError(f"no query could be made: {drawn.ended}.")
    _write(drawn, book, output, settings)
    summary = _summary(drawn, plan, cases, bad_rows, book, index, around, settings)
    return write_receipt(output, parts, summary)


def read_cases(url: str) -> tuple[dict[str, list[VqaRow]], list[BadRow]]:
    """Bad cases by type in the file's order, types without any kept, and the rows that cannot be used."""
    try:
        found = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None
    good, bad = parse_rows(found, url)
    cases = by_type(good, list(found) if isinstance(found, dict) else ())
    untyped = cases.pop("", [])
    bad += [BadRow(-1, row.question_id, "it has no question type", None) for row in untyped]
    return cases, bad


def prompt_of(query: Query, facts: ImageFacts, settings: QuerySettings) -> str:
    if settings.version == "v2":
        return prompt_v2(query.question_type, facts, query.examples)
    return prompt_v1(query.question_type, facts, query.examples, indented=settings.compat)


def _draw(
    cases: Cases,
    plan: TypePlan,
    weights: Mapping[str, float] | None,
    index: ImageIndex,
    book: FactBook,
    around: Around | None,
    settings: QuerySettings,
    excluded: set[ImageId],
) -> Drawn:
    if settings.compat and around is not None:
        return replay_queries(
            cases, weights, index, book, around, wanted=settings.maxnum, seed=settings.seed, excluded=excluded
        )
    return draw_queries(
        cases,
        plan,
        index,
        book,
        around,
        wanted=settings.maxnum,
        examples=settings.shown,
        seed=settings.seed,
        max_boxes=MAX_BOXES if settings.version == "v1" else None,
        excluded=excluded,
    )


def _write(drawn: Drawn, book: FactBook, output: str, settings: QuerySettings) -> None:
    write_query_table(drawn.queries, query_table_url(output))
    rows = [
        {
            "image_id": query.image,
            "prompt": prompt_of(query, book.facts[query.image], settings),
            "question_type": query.question_type,
        }
        for query in drawn.queries
    ]
    write_json(output, rows)


def _summary(
    drawn: Drawn,
    plan: TypePlan,
    cases: Cases,
    bad_rows: list[BadRow],
    book: FactBook,
    index: ImageIndex,
    around: Around | None,
    settings: QuerySettings,
) -> dict[str, Any]:
    made = Counter(query.question_type for query in drawn.queries)
    shares = plan.shares
    types = [
        {"type": kind, "bad_cases": len(cases[kind]), "share": round(shares[kind], 4), "queries": made[kind], "why": ""}
        for kind in plan.types
    ]
    types += [
        {"type": kind, "bad_cases": off.bad_cases, "share": round(off.share, 4), "queries": 0, "why": off.why}
        for kind, off in plan.backed_off.items()
    ]
    return {
        "queries": len(drawn.queries),
        "wanted": settings.maxnum,
        "ended": drawn.ended,
        "types": types,
        "backed_off_share": round(sum(off.share for off in plan.backed_off.values()), 4),
        "undefined_types": [kind for kind in plan.types if definition_of(kind) is None],
        "how": dict(Counter(query.how for query in drawn.queries)),
        "without_neighbour": sum(1 for query in drawn.queries if query.reason),
        "anchors_missing": sorted(name for name, near in (around or {}).items() if isinstance(near, str)),
        "images": {**drawn.images, **{f"not in the index: {why}": count for why, count in index.left_out.items()}},
        "annotations_skipped": dict(book.skipped),
        "bad_cases_skipped": [str(row) for row in bad_rows],
    }


def _facts(inputs: QueryInputs) -> FactBook:
    if inputs.regions is None:
        if inputs.ocr is not None:
            raise VlfilterError("lines of recognised text go with region descriptions (v2).")
        return read_coco(inputs.captions, inputs.instances)
    if inputs.image_data is None:
        raise VlfilterError("region descriptions hold no image sizes: give Visual Genome's image_data.json too.")
    return read_regions(inputs.regions, inputs.image_data, inputs.ocr)


def _excluded(urls: tuple[str, ...]) -> set[ImageId]:
    """The images in earlier rounds' prompts."""
    found: set[ImageId] = set()
    for url in urls:
        try:
            found.update(row["image_id"] for row in json.loads(read_bytes(url)))
        except FileNotFoundError:
            raise VlfilterError(f"there is no file {url}.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise VlfilterError(f"{url} is no list of queries: {type(error).__name__}: {error}") from None
    return found


def _parts(
    inputs: QueryInputs, settings: QuerySettings, index: ImageIndex, anchors: str, embed: EmbedSettings
) -> dict[str, Any]:
    """All that changes the queries. Which device computes does not count."""
    names = ("bad_cases", "weights", "captions", "instances", "regions", "image_data", "ocr")
    given = {name: getattr(inputs, name) for name in names}
    chosen = {name: value for name, value in asdict(settings).items() if name not in ("device", "model")}
    return {
        "step": "data engine queries",
        "code": CODE_VERSION,
        "settings": chosen,
        "index": index.made_of,
        "model": clip_source(embed.model).digest() if inputs.bad_case_images else "",
        "anchors": anchors,
        "exclude": [file_digest(url) for url in inputs.exclude],
        "bad_case_images": inputs.bad_case_images and absolute(inputs.bad_case_images),
        **{name: value and file_digest(value) for name, value in given.items()},
    }
