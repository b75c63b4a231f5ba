"""RefCOCO, RefCOCO+ and RefCOCOg in the form of MiniGPT-v2's evaluation files: where is what is spoken of?"""

from __future__ import annotations

from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Benchmark, Question, Reading, Source
from vlfilter.evaluation.benchmarks.reading import Row, collect, find_file, id_of, read_rows, text_of
from vlfilter.evaluation.boxes import iou, read_box
from vlfilter.evaluation.items import Item

DATA = ("refcoco_testA.json", "refcoco_val.json")
TAG, ASKED = "[refer] ", "give me the location of "
COCO_NAME = len("COCO_train2014_000000000000")
ENOUGH = 0.5


class RefCoco(Benchmark):
    """The share of boxes that overlap with the right one by more than half (intersection over union).

    Rows have `img_id`, `sents` (a text), `bbox` (x, y, width, height), `width` and `height`.
    """

    name = "refcoco"
    title = TITLES["refcoco"]
    rules = ("fixed",)
    id_names = ("key",)

    def read(self, source: Source) -> Reading:
        def parse(number: int, row: Row) -> Question:
            image = f"{id_of(row, 'img_id')[:COCO_NAME]}.jpg"
            box = [_number(value) for value in row.get("bbox") or []]
            if len(box) != 4:
                raise ValueError("bbox is not x, y, width and height")
            size = {name: _number(row.get(name)) for name in ("width", "height")}
            asked = f"{TAG if source.tag else ''}{ASKED}{text_of(row, 'sents')}"
            item = Item(str(number), asked, (), (image, f"train2014/{image}"))
            return Question(number, item, (str(row["bbox"]),), row={"box": box, **size})

        return collect(read_rows(find_file(source.data, DATA, "RefCOCO questions")), parse)

    def mark(self, question: Question, written: str, rule: str) -> float:  # noqa: ARG002 - there is one
        row = question.row
        x, y, across, down = row["box"]
        found = read_box(self.clean(written), row["width"], row["height"])
        return float(found is not None and iou(found, (x, y, x + across, y + down)) > ENOUGH)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number of pixels")
    return float(value)
