"""The teacher's texts → rows to train and to validate on, and a table of all that was rejected, with the reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vlfilter.data.quality_rows import KINDS, QualityRow, write_quality_rows
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.errors import VlfilterError
from vlfilter.methods.unifilter.balancing import balance, shuffled
from vlfilter.methods.unifilter.items import SIDES
from vlfilter.methods.unifilter.levels import LEVELS
from vlfilter.methods.unifilter.rules import TextRules, judge_texts, reject_incomplete
from vlfilter.methods.unifilter.texts import LevelText, Verdict, read_texts, write_texts

CODE_VERSION = 1


@dataclass(frozen=True, slots=True)
class CurateSettings:
    """`keep_incomplete` keeps the other texts of an image that lost one; by default they go with it."""

    rules: TextRules = field(default_factory=TextRules)
    keep_incomplete: bool = False
    seed: int = 0


def curate(texts: str, train: str, validation: str, rejected: str, settings: CurateSettings) -> dict[str, Any]:
    """Write `train` and `validation` (published row format) and `rejected`; every text is in exactly one of them.

    Returns counts: `texts`, `rows` by side and kind, `rejected` by kind and verdict, `levels` as a table. Raises
    `VlfilterError` where a level would have no row on a side; `rejected` is written nevertheless.
    """
    if not exists(texts):
        raise VlfilterError(f"there are no texts {texts}: the teacher's step writes them.")
    parts = {
        "code": CODE_VERSION,
        "texts": file_digest(texts),
        "rules": asdict(settings.rules),
        "keep_incomplete": settings.keep_incomplete,
        "seed": settings.seed,
    }
    known = finished(train, parts)
    if known is not None and all(exists(url) and file_digest(url) == known["files"][name] for name, url in (
        ("validation", validation), ("rejected", rejected))):  # fmt: skip
        return known
    judged = judge_texts(read_texts(texts), settings.rules)
    if not settings.keep_incomplete:
        judged = reject_incomplete(judged)
    judged = balance(judged, settings.seed)
    write_texts(rejected, (text for text in judged if text.status != Verdict.OK))
    _check(judged, rejected)
    for url, side in ((validation, "validation"), (train, "train")):
        write_quality_rows(url, rows_of([text for text in judged if text.side == side], settings.seed))
    files = {"validation": file_digest(validation), "rejected": file_digest(rejected)}
    return write_receipt(train, parts, {**summarise(judged), "files": files})


def rows_of(texts: Sequence[LevelText], seed: int) -> list[QualityRow]:
    """The rows of the texts that are `ok`, in a seeded order."""
    good = shuffled([text for text in texts if text.status == Verdict.OK], seed)
    return [QualityRow(str(i), text.images, text.text, text.level, text.kind) for i, text in enumerate(good)]


def summarise(texts: Sequence[LevelText]) -> dict[str, Any]:
    good = Counter((text.side, text.kind) for text in texts if text.status == Verdict.OK)
    bad = Counter((text.kind, text.status) for text in texts if text.status != Verdict.OK)
    kinds = [kind for kind in KINDS if any(text.kind == kind for text in texts)]
    return {
        "texts": len(texts),
        "rows": {side: {kind: good[side, kind] for kind in kinds} for side in SIDES},
        "rejected": {
            kind: {str(verdict): bad[kind, str(verdict)] for verdict in Verdict if bad[kind, str(verdict)]}
            for kind in kinds
        },
        "levels": level_table(texts),
    }


def level_table(texts: Sequence[LevelText]) -> list[dict[str, Any]]:
    """One row a kind and level: `kind`, `level`, `name`, `written`, then the count of every verdict that occurs."""
    counts = Counter((text.kind, text.level, text.status) for text in texts)
    seen = [str(verdict) for verdict in Verdict if any(key[2] == verdict for key in counts)]
    return [
        {"kind": kind, "level": level.score, "name": level.name}
        | {"written": sum(n for key, n in counts.items() if key[:2] == (kind, level.score))}
        | {verdict: counts[kind, level.score, verdict] for verdict in seen}
        for kind in KINDS
        if any(key[0] == kind for key in counts)
        for level in LEVELS
    ]


def _check(texts: Sequence[LevelText], rejected: str) -> None:
    """Training on levels that are not there would spend GPU hours for nothing."""
    good = Counter((text.kind, text.side) for text in texts if text.status == Verdict.OK)
    for kind in (kind for kind in KINDS if any(text.kind == kind for text in texts)):
        for side in SIDES:
            if good[kind, side]:
                continue
            here = [text for text in texts if (text.kind, text.side) == (kind, side)]
            if not here:
                raise VlfilterError(f"no {kind} text was written for {side}: give more images or another share.")
            lost = Counter(
                (text.level, text.status)
                for text in here
                if text.status not in (Verdict.OK, Verdict.INCOMPLETE_SET, Verdict.SURPLUS)
            )
            told = ", ".join(
                f"level {level} ({LEVELS[level].name}) {n} {status}" for (level, status), n in sorted(lost.items())
            )
            raise VlfilterError(
                f"no {kind} rows are left for {side}, for a level would be empty. Of {len(here)} texts there, these "
                f"were lost: {told}. All are in {rejected} with their reasons; take more images or another teacher."
            )
