"""As many texts of each level as of the others, exactly, on each side of the split and of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from vlfilter.data.quotas import priority
from vlfilter.methods.unifilter.levels import SCORES
from vlfilter.methods.unifilter.texts import LevelText, Verdict


def balance(texts: Sequence[LevelText], seed: int) -> list[LevelText]:
    """The same texts in the same order; of every level, those beyond the count of the rarest are `surplus`.

    Texts of items that have all levels stay before others, then the lot decides: the seed, ids and levels, not the
    order of texts.
    """
    groups: dict[tuple[str, str], list[LevelText]] = {}
    whole = Counter((text.kind, text.item) for text in texts if text.status == Verdict.OK)
    for text in texts:
        if text.status == Verdict.OK:
            groups.setdefault((text.kind, text.side), []).append(text)
    kept: set[tuple[str, str, int]] = set()
    for (kind, _), members in groups.items():
        levels = {level: [text for text in members if text.level == level] for level in SCORES}
        quota = min(len(found) for found in levels.values())
        for level, found in levels.items():
            found.sort(key=lambda text: (whole[text.kind, text.item] < len(SCORES), _lot(text, seed), text.item))
            kept |= {(kind, text.item, level) for text in found[:quota]}
    return [
        replace(text, status=str(Verdict.SURPLUS), reason=f"there are fewer {text.kind} texts of another level")
        if text.status == Verdict.OK and (text.kind, text.item, text.level) not in kept
        else text
        for text in texts
    ]


def shuffled(texts: Sequence[LevelText], seed: int) -> list[LevelText]:
    """In an order that only the seed, ids and levels decide."""
    return sorted(texts, key=lambda text: (_lot(text, seed), text.kind, text.item, text.level))


def _lot(text: LevelText, seed: int) -> int:
    return priority(seed, "row", text.kind, text.item, str(text.level))
