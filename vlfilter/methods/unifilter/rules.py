"""What makes a text unfit for training: by itself, beside the other levels of its image, or beside other images' texts.

Only texts that are still `ok` are looked at, and each keeps the first verdict it gets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import combinations

from vlfilter.data.quality_rows import KINDS, Kind
from vlfilter.methods.unifilter.levels import LEVELS, SCORES
from vlfilter.methods.unifilter.texts import LevelText, Verdict
from vlfilter.selection.near_duplicates import jaccard, near_duplicates, shingles, words_of

_REFUSAL = re.compile(
    r"\W*(i[’']?m sorry|i am sorry|sorry,? (but )?i\b|i can(no|[’'])t\b|i can not\b|i won[’']t\b|"
    r"i[’']?m (not able|unable)|i am (not able|unable)|as an ai\b|unfortunately,? i\b)",
    re.IGNORECASE,
)
_WRONG = r"(wrong|incorrect|inaccurate|false|misleading|unrelated|irrelevant|mismatched|incoherent|erroneous)"
_TEXT = r"(caption|description|document|text|article|example|sample)s?"
_GIVES_AWAY = re.compile(
    "|".join(
        (
            r"\b(quality )?level[ _-]?[0-3]\b",
            r"\b(easy|medium|hard)[ -]negatives?\b",
            rf"\b(low|poor|bad|medium|high|good|lower|higher)(er|est)?[ -]quality {_TEXT}\b",
            rf"\b(positive|negative) {_TEXT}\b",
            rf"\b(deliberately|intentionally|purposely|purposefully|subtly) {_WRONG}\b",
            r"\b(deliberate|intentional|planted) (error|mistake|change)s?\b",
            rf"\b(this|the|my) {_TEXT}\b[^.!?]{{0,60}}\b({_WRONG}|does not match|doesn[’']t match|do not match)\b",
            rf"\b(this|the) {_TEXT}\b[^.!?]{{0,20}}\b(matches|is correct|is accurate)\b",
            r"\bunrelated to (this|the|any|these) (\w+ )?(image|picture|photo)",
            r"\b(quality score|score|rating|label)\s*[:=]\s*[0-3]\b",
            rf"[\[(]\s*({_WRONG}|error|mistake|sic)\b[^\])]*[\])]",
        )
    ),
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TextRules:
    """Lengths in words. `duplicate`: Jaccard similarity of three-word shingles from which on two texts are the same.

    A caption of level 2 should be that of level 3 with one thing changed: they must share at least `hard_overlap` of
    their words in order.
    """

    caption_words: tuple[int, int] = (3, 300)
    document_words: tuple[int, int] = (30, 3000)
    duplicate: float = 0.8
    hard_overlap: float = 0.5

    def lengths(self, kind: Kind) -> tuple[int, int]:
        return self.caption_words if kind == "caption" else self.document_words


def judge_texts(texts: Sequence[LevelText], rules: TextRules) -> list[LevelText]:
    """The same texts in the same order, with a verdict and a reason for those that a rule rejects."""
    judged = [_alone(text, rules) for text in texts]
    _within(judged, rules)
    _across(judged, rules)
    return judged


def _reject(text: LevelText, verdict: Verdict, reason: str) -> LevelText:
    return replace(text, status=str(verdict), reason=reason)


def _alone(text: LevelText, rules: TextRules) -> LevelText:
    if text.status != Verdict.OK:
        return text
    joined = _joined(text)
    least, most = rules.lengths(text.kind)
    count = len(text.words)
    if _REFUSAL.match(joined):
        return _reject(text, Verdict.REFUSED, f"it begins like a refusal: {joined[:60]!r}")
    if count < least:
        return _reject(text, Verdict.TOO_SHORT, f"{count} words, at least {least} are wanted")
    if count > most:
        return _reject(text, Verdict.TOO_LONG, f"{count} words, at most {most} are wanted")
    if told := gives_away(joined):
        return _reject(text, Verdict.GIVES_AWAY, f"it speaks of its level: {told!r}")
    return text


def gives_away(text: str) -> str:
    """The words by which a text tells of its level, of a mistake or of the task; "" if none."""
    found = _GIVES_AWAY.search(text)
    return found[0] if found else ""


def _within(texts: list[LevelText], rules: TextRules) -> None:
    """Two levels of one item in the same words: nobody can tell which label is right, so both go."""
    items: dict[tuple[str, str], list[int]] = {}
    for place, text in enumerate(texts):
        if text.status == Verdict.OK:
            items.setdefault((text.kind, text.item), []).append(place)
    for places in items.values():
        words = {place: words_of(_joined(texts[place])) for place in places}
        verdicts: dict[int, tuple[Verdict, str]] = {}
        for one, other in combinations(places, 2):
            low, high = sorted((one, other), key=lambda place: texts[place].level)
            pair = (texts[low].level, texts[high].level)
            if words[low] == words[high] or (pair != (2, 3) and _alike(words[low], words[high], rules)):
                for place, level in ((low, pair[1]), (high, pair[0])):
                    verdicts.setdefault(place, (Verdict.DUPLICATE, f"nearly the words of its level {level}"))
            elif pair == (2, 3) and texts[low].kind == "caption":
                shared = SequenceMatcher(None, words[low], words[high], autojunk=False).ratio()
                if shared < rules.hard_overlap:
                    reason = f"shares {shared:.0%} of its words with level 3, at least {rules.hard_overlap:.0%} wanted"
                    verdicts.setdefault(low, (Verdict.NOT_HARD, reason))
        for place, (verdict, reason) in verdicts.items():
            texts[place] = _reject(texts[place], verdict, reason)


def _alike(one: list[str], other: list[str], rules: TextRules) -> bool:
    return jaccard(shingles(one), shingles(other)) >= rules.duplicate


def _across(texts: list[LevelText], rules: TextRules) -> None:
    """Of nearly the same text for several images, at one level, the first stays.

    At different levels it may: a caption that is right for one image and wrong for another teaches to look.
    """
    for kind in KINDS:
        for level in SCORES:
            places = [
                i for i, text in enumerate(texts) if (text.kind, text.level, text.status) == (kind, level, Verdict.OK)
            ]
            found = near_duplicates([_joined(texts[place]) for place in places], rules.duplicate)
            for later, (first, similarity) in found.items():
                reason = f"like the text for {texts[places[first]].item} (similarity {similarity:.2f})"
                texts[places[later]] = _reject(texts[places[later]], Verdict.DUPLICATE, reason)


def reject_incomplete(texts: Sequence[LevelText]) -> list[LevelText]:
    """Texts of items that lost a level go too.

    An image that is seen with some levels only would tell something about the label by itself.
    """
    lost: dict[tuple[str, str], LevelText] = {}
    for text in texts:
        if text.status != Verdict.OK:
            lost.setdefault((text.kind, text.item), text)
    result = []
    for text in texts:
        cause = lost.get((text.kind, text.item))
        if text.status == Verdict.OK and cause is not None:
            name = LEVELS[cause.level].name
            text = _reject(text, Verdict.INCOMPLETE_SET, f"level {cause.level} ({name}) is {cause.status}")
        result.append(text)
    return result


def _joined(text: LevelText) -> str:
    return "\n".join(slot for slot in text.slots if slot)
