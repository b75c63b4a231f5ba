"""What shows without a judge about generated questions: doubles, here and in earlier rounds, the evaluation's own
questions, answers given away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlfilter.data.aokvqa import VqaRow
from vlfilter.selection.near_duplicates import near_duplicates, near_matches, words_of

_SMALL = frozenset(  # words that give nothing away by standing in a question
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "he", "her", "his", "in", "is", "it", "its"),
        *("no", "not", "of", "off", "on", "one", "or", "she", "some", "that", "the", "their", "them", "there", "they"),
        *("this", "to", "up", "was", "were", "with", "yes"),
    )
)


@dataclass(frozen=True, slots=True)
class Match:
    """The place of what a row is like, and how much (Jaccard similarity of three-word shingles, 0 to 1)."""

    place: int
    similarity: float


def duplicates(rows: Sequence[VqaRow], threshold: float) -> dict[int, Match]:
    """Rows whose question and choices (in any order) are nearly those of an earlier row that is none itself.

    Two rows about the same image need the same question only: other choices do not make it another one.
    """
    found = {
        place: Match(*match) for place, match in near_duplicates([whole_text(row) for row in rows], threshold).items()
    }
    by_image: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if row.file_name:
            by_image.setdefault(row.file_name, []).append(place)
    for places in by_image.values():
        left = [place for place in places if place not in found]
        for place, match in near_duplicates([rows[place].question for place in left], threshold).items():
            found[left[place]] = Match(left[match[0]], match[1])
    return found


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a row shares with an evaluation set; places in that set, None where nothing is as similar."""

    question: Match | None
    whole: Match | None  # question and choices
    image: int | None

    @property
    def verdict(self) -> str:
        """`image_and_question`, `image`, `question_and_choices`, `question` or `none`, the gravest first."""
        if self.image is not None:
            return "image_and_question" if self.question else "image"
        if self.whole is not None:
            return "question_and_choices"
        return "question" if self.question else "none"


@dataclass(frozen=True, slots=True)
class Repeat:
    """What a row has of an earlier round's row: `image_and_question`, `question_and_choices`, `image` alone, or `none`.

    `match` is that row; its similarity is 0 where only the image is shared.
    """

    verdict: str
    match: Match | None


REPEATS = ("image_and_question", "question_and_choices")  # a double; another question about the same image is none


def repeats(rows: Sequence[VqaRow], earlier: Sequence[VqaRow], threshold: float) -> list[Repeat]:
    """For each row the gravest that it has of one earlier row, as doubles are told within a round."""
    wholes = near_matches([whole_text(row) for row in rows], [whole_text(row) for row in earlier], threshold)
    by_image: dict[str, list[int]] = {}
    for place, row in enumerate(earlier):
        if row.file_name:
            by_image.setdefault(row.file_name, []).append(place)
    return [
        _repeat(row, earlier, by_image.get(row.file_name, []), _match(wholes.get(place)), threshold)
        for place, row in enumerate(rows)
    ]


def _repeat(
    row: VqaRow, earlier: Sequence[VqaRow], same_image: Sequence[int], whole: Match | None, threshold: float
) -> Repeat:
    asked = near_matches([row.question], [earlier[place].question for place in same_image], threshold)
    if found := asked.get(0):
        return Repeat("image_and_question", Match(same_image[found[0]], found[1]))
    if whole is not None:
        return Repeat("question_and_choices", whole)
    return Repeat("image", Match(same_image[0], 0.0)) if same_image else Repeat("none", None)


OVERLAPS = ("image_and_question", "image", "question_and_choices", "question")


def overlaps(
    rows: Sequence[VqaRow], evaluation: Sequence[VqaRow], threshold: float, same_image: dict[int, int]
) -> list[Overlap]:
    """For each row what it shares with the evaluation set. `same_image` is from `images_by_name` and the like."""
    questions = near_matches([row.question for row in rows], [row.question for row in evaluation], threshold)
    wholes = near_matches([whole_text(row) for row in rows], [whole_text(row) for row in evaluation], threshold)
    return [
        Overlap(_match(questions.get(place)), _match(wholes.get(place)), same_image.get(place))
        for place in range(len(rows))
    ]


def images_by_name(rows: Sequence[VqaRow], evaluation: Sequence[VqaRow]) -> dict[int, int]:
    """Place of a row → place of an evaluation question about the image of the same id (COCO's are unique) or path."""
    first: dict[str, int] = {}
    for place, row in enumerate(evaluation):
        if row.file_name:
            first.setdefault(row.file_name.rsplit("/", 1)[-1], place)
    names = ((place, row.file_name.rsplit("/", 1)[-1]) for place, row in enumerate(rows))
    return {place: first[name] for place, name in names if name and name in first}


def whole_text(row: VqaRow) -> str:
    """Question and choices, in an order that does not depend on theirs."""
    return "\n".join([row.question, *sorted(row.choices, key=str.casefold)])


def leaked(row: VqaRow) -> str:
    """What in the question gives the answer away; "" if nothing does.

    The right choice's words stand in the question and those of no other choice do: "black or white?" tells nothing.
    Choices of small words only (yes, on the) are left out. So is a question that spells out its answer as such.
    """
    asked = words_of(row.question)
    if "the answer is" in " ".join(asked):
        return "it says 'the answer is'"
    if not _stands_in(row.correct_choice, asked):
        return ""
    others = [choice for place, choice in enumerate(row.choices) if place != row.correct_choice_idx]
    if any(_stands_in(choice, asked) for choice in others):
        return ""
    return f"it has the right choice's words: {row.correct_choice!r}"


def _stands_in(choice: str, asked: Sequence[str]) -> bool:
    words = words_of(choice)
    while words and words[0] in ("a", "an", "the"):
        words = words[1:]
    if not words or all(word in _SMALL for word in words):
        return False
    return any(list(asked[start : start + len(words)]) == words for start in range(len(asked) - len(words) + 1))


def _match(found: tuple[int, float] | None) -> Match | None:
    return None if found is None else Match(*found)
