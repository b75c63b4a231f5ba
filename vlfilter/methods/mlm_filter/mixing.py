"""Graded pairs and general instructions → one LLaVA json to fine-tune on (the paper: 4,000 + 46,000 of LLaVA-665k)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from vlfilter.data.annotations import Instruction, Turn, read_instructions, write_instructions
from vlfilter.data.image_files import missing_paths
from vlfilter.data.quotas import priority
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus, read_grades
from vlfilter.methods.mlm_filter.questions import target_answer
from vlfilter.scoring.mlm_filter_prompts import instruction

CODE_VERSION = 1
PLACEHOLDER = "<image>"
MAX_LISTED = 20


def quality_instruction(grade: Grade) -> Instruction:
    """A grade as the student sees it: the image, the published question, then the score and the rationale.

    A placeholder written in the caption or the rationale would claim a second image: it becomes the plain word.
    """
    assert grade.score is not None
    question = instruction(grade.metric, _plain(grade.caption), grade.version)
    answer = target_answer(grade.score, _plain(grade.answer))
    turns = (Turn("human", f"{PLACEHOLDER}\n{question}"), Turn("gpt", answer))
    return Instruction(f"{grade.id}_{grade.metric}", turns, grade.image)


def subsample(rows: Sequence[Instruction], count: int, seed: int) -> list[Instruction]:
    """`count` of the rows, in their order; which ones the seed and their places decide."""
    lots = sorted(range(len(rows)), key=lambda i: (priority(seed, "mix", str(i)), i))
    return [rows[i] for i in sorted(lots[:count])]


def mix(quality: Iterable[Instruction], general: Iterable[Instruction], seed: int) -> tuple[list[Instruction], int]:
    """All rows in an order that the seed decides, every id once; and how many ids were changed for that.

    Published files use some ids twice: the second one becomes `ID-2`.
    """
    rows: list[Instruction] = []
    taken: set[str] = set()
    renamed = 0
    for row in (*quality, *general):
        name, number = row.id or "row", 1
        while name in taken:
            number += 1
            name = f"{row.id or 'row'}-{number}"
        taken.add(name)
        renamed += name != row.id
        rows.append(row if name == row.id else replace(row, id=name))
    return sorted(rows, key=lambda row: (priority(seed, "order", row.id), row.id)), renamed


def mix_instructions(
    grades_url: str, output: str, *, data: str | None, rows: int, image_prefix: str, seed: int
) -> dict[str, Any]:
    """Write the LLaVA json of a balanced grades file and `rows` rows of another LLaVA json (`data`; None: none).

    `image_prefix` goes in front of the image paths of `data`. Rows of it that cannot be used are counted and the first
    of them listed. Raises `VlfilterError` when there are no graded rows, or fewer usable rows in `data` than asked for.
    """
    if data is not None and not exists(data):
        raise VlfilterError(f"there is no file {data} to mix in.")
    if not exists(grades_url):
        raise VlfilterError(f"there are no balanced grades {grades_url}: the balancing step writes them.")
    parts = {
        "code": CODE_VERSION,
        "grades": file_digest(grades_url),
        "data": file_digest(data) if data is not None else None,
        "rows": rows if data is not None else 0,
        "image_prefix": image_prefix if data is not None else "",
        "seed": seed,
    }
    if (known := finished(output, parts)) is not None:
        return known
    quality = [quality_instruction(g) for g in read_grades(grades_url) if g.status == GradeStatus.OK]
    if not quality:
        raise VlfilterError(f"{grades_url} holds no row with a score: there is nothing to learn from.")
    general: list[Instruction] = []
    bad: list[str] = []
    if data is not None:
        good, bad = read_instructions(data)
        if len(good) < rows:
            raise VlfilterError(
                f"{data} has {len(good)} rows that can be used ({len(bad)} cannot), but {rows} are to be mixed in: "
                f"ask for at most {len(good)}."
            )
        general = [_below(image_prefix, row) for row in subsample(good, rows, seed)]
    mixed, renamed = mix(quality, general, seed)
    write_instructions(output, mixed)
    summary = {
        "rows": len(mixed),
        "quality_rows": len(quality),
        "general_rows": len(general),
        "renamed_ids": renamed,
        "unusable_rows": len(bad),
        "unusable": bad[:MAX_LISTED],
    }
    return write_receipt(output, parts, summary)


def missing_images(rows: Iterable[Instruction], folder: str) -> list[str]:
    """`ID: PATH` of every row whose image is no file below `folder`. Paths that lead out of it count as missing."""
    rows = [row for row in rows if row.image is not None]
    missing = set(missing_paths((row.image or "" for row in rows), folder))
    return [f"{row.id}: {row.image}" for row in rows if row.image in missing]


def check_images(data: str, folder: str) -> dict[str, int]:
    """Raises `VlfilterError` naming the first rows without an image, before a GPU is taken; else counts the rows."""
    if not exists(data):
        raise VlfilterError(f"there is no file {data}: the mixing step writes it.")
    good, bad = read_instructions(data)
    if bad:
        raise VlfilterError(f"{data}: {len(bad)} rows cannot be used. The first: {bad[0]}")
    if not good:
        raise VlfilterError(f"{data} holds no rows.")
    if missing := missing_images(good, folder):
        raise VlfilterError(
            f"{len(missing)} of {len(good)} rows of {data} have no image below {folder}: "
            f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        )
    return {"rows": len(good), "with_image": sum(row.image is not None for row in good)}


def _below(prefix: str, row: Instruction) -> Instruction:
    if row.image is None or not prefix.strip("/"):
        return row
    return replace(row, image=f"{prefix.strip('/')}/{row.image}")


def _plain(text: str) -> str:
    return text.replace(PLACEHOLDER, "image")
