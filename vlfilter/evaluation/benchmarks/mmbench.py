"""MMBench (Liu et al., 2023): circular multiple choice, images in a TSV, a sheet for the server."""

from __future__ import annotations

import base64
import binascii

from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Answers, Benchmark, Question, Reading, Source, json_lines
from vlfilter.evaluation.benchmarks.letters import chosen_letter, lettered_question
from vlfilter.evaluation.benchmarks.reading import Row, collect, find_file, id_of, read_rows
from vlfilter.evaluation.benchmarks.seed import result_line
from vlfilter.evaluation.benchmarks.sheet import sheet
from vlfilter.evaluation.items import Item

DATA = ("mmbench_dev_20230712.tsv", "mmbench_dev_en_20231003.tsv")
LETTERS = ("A", "B", "C", "D")
ROTATION = 1_000_000  # copies of a question with its options moved on have its index and a multiple of this
NO_COLUMNS = ("hint", "category", "source", "image", "comment", "l2-category")
PREDICTION_AT = 6
LONGEST_REFERENCE = 64  # characters; a shorter image is the index of the row that has it
# words that pandas reads as a missing cell
MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip


class MMBench(Benchmark):
    """A question is right when it is in all its rotations (CircularEval). The published scripts only make the sheet.

    They take an option `None`, `NA` or `nan` for a missing one, and lower the case of predictions; here such options
    stay, and texts too.
    """

    name = "mmbench"
    title = TITLES["mmbench"]
    rules = ("fixed",)
    id_names = ("question_id", "index")
    text_names = ("text", "prediction")

    def read(self, source: Source) -> Reading:
        rows = read_rows(find_file(source.data, DATA, "MMBench table"))
        images = {row["index"]: row.get("image", "") for row in rows if isinstance(row, dict) and "index" in row}
        gone = MISSING if source.mode == "compat" else {""}

        def parse(number: int, row: Row) -> Question:
            key = id_of(row, "index")
            if not key.isdecimal():
                raise ValueError(f"index is {key!r}, not a whole number")
            question = row.get("question", "")
            if not question.strip():
                raise ValueError("it has no question")
            options = {letter: row[letter] for letter in LETTERS if _there(row, letter, source.mode)}
            if not options:
                raise ValueError("it has no options")
            answer = row.get("answer", "").strip()
            if answer and answer not in options:
                raise ValueError(f"its answer {answer!r} is none of its options {', '.join(options)}")
            hint = row.get("hint", "")
            context = "" if hint.lower() in ("nan", "none") or hint in MISSING else f"{hint}\n"
            prompt = f"{context}{source.tag}{lettered_question(question, options)}"
            told = {name: "" if cell in gone else cell for name, cell in row.items() if name not in NO_COLUMNS}
            return Question(
                number,
                Item(key, prompt, image=_image(row.get("image", ""), images)),
                (answer,) if answer else (),
                options,
                row.get("category", ""),
                str(int(key) % ROTATION),
                row=told | {"question_id": key, "prompt": prompt},
            )

        return collect(rows, parse)

    def mark(self, question: Question, written: str, rule: str) -> float:  # noqa: ARG002 - there is one
        return float(chosen_letter(self.clean(written), question.options) == question.truth[0])

    def files(self, answers: Answers) -> dict[str, bytes]:
        lines = []
        for one in answers.answered:
            options = one.question.options
            more = {"options": list(options.values()), "option_char": list(options)}
            lines.append(result_line(self, one, answers.model_id, **more))
        return {"mmbench.jsonl": json_lines(lines), "mmbench.xlsx": self._sheet(answers)}

    def _sheet(self, answers: Answers) -> bytes:
        rows = []
        for one in answers.answered:
            cells: Row = {name: cell for name, cell in one.question.row.items() if name not in _OURS}
            cells["index"] = int(cells["index"])
            text = self.clean(one.written or "")
            names = list(cells)
            names.insert(PREDICTION_AT, "prediction")
            cells["prediction"] = text.capitalize() if answers.mode == "compat" else text
            rows.append({name: cells[name] for name in names})
        return sheet(rows)


_OURS = ("question_id", "prompt")


def _there(row: Row, letter: str, mode: str) -> bool:
    option = row.get(letter, "")
    if mode == "compat":
        return option not in MISSING and option.lower() not in ("nan", "none")
    return bool(option.strip())


def _image(cell: str, images: dict[str, str]) -> bytes:
    """The image's file; what cannot be read comes out as no image, and the question as a row that says so."""
    if len(cell) <= LONGEST_REFERENCE:
        cell = images.get(cell, "")
    try:
        return base64.b64decode(cell, validate=True)
    except (binascii.Error, ValueError):
        return b"no base64"
