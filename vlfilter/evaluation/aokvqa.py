"""A-OKVQA's two scores (Schwenk et al., 2022), and what MLLM-DataEngine's evaluation makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlfilter.data.aokvqa import VqaRow, choices_text

FULL_MARKS = 3  # people who must have given the answer


@dataclass(frozen=True, slots=True)
class AokvqaScores:
    """In percent. `multiple_choice` over all questions, `direct_answer` over those that are not marked as difficult to
    answer directly; None where there is none of them. Questions without an answer count as wrong."""

    multiple_choice: float | None
    direct_answer: float | None


def choice_message(row: VqaRow) -> str:
    """The question with its choices, two lines, as the engine's prompts and training texts put it."""
    return f"{row.question}\n{choices_text(row.choices).rstrip()}"


def published_answer(answer: str) -> str:
    """What the published script scores of an answer: up to its first full stop, in lower case."""
    return answer.split(".")[0].lower()


def direct_accuracy(answer: str, answers: Sequence[str]) -> float:
    """min(1, people who gave this very answer / 3)."""
    return min(1.0, sum(answer == given for given in answers) / FULL_MARKS)


def published_scores(rows: Sequence[VqaRow], answers: Mapping[str, str]) -> AokvqaScores:
    """As the published script reports them, from answers by question id.

    One answer counts for both scores. It is cut and lower-cased before it is compared, so the right choice `Red` or
    `St. Louis` is wrong here.
    """
    shown = {key: published_answer(answer) for key, answer in answers.items()}
    chosen = [float(shown.get(row.question_id) == row.correct_choice) for row in rows]
    return AokvqaScores(_percent(chosen), direct_score(rows, shown))


def accuracy(rows: Sequence[VqaRow], choices: Mapping[str, str]) -> float | None:
    """Questions whose chosen text is the right one, in percent; None without questions."""
    return _percent([float(choices.get(row.question_id) == row.correct_choice) for row in rows])


def direct_score(rows: Sequence[VqaRow], answers: Mapping[str, str]) -> float | None:
    """The mean of `direct_accuracy` in percent, over the questions that are not difficult to answer directly."""
    return _percent(
        [
            direct_accuracy(answers[row.question_id], row.direct_answers) if row.question_id in answers else 0.0
            for row in rows
            if not row.difficult_direct_answer
        ]
    )


def compat_covered(count: int, processes: int) -> list[int]:
    """The questions that the published script answers, of `count` in `processes` processes: it loses the last one
    wherever a process's share reaches beyond the end. Here none is lost; for comparisons with its files only."""
    step = count // processes + 1
    covered: list[int] = []
    for rank in range(processes):
        end = (rank + 1) * step
        covered += range(rank * step, count - 1 if end > count else end)
    return covered


def _percent(scores: Sequence[float]) -> float | None:
    return 100 * sum(scores) / len(scores) if scores else None
