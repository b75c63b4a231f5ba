from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.helpers import document, jpeg, make_tar, pair
from tests.selection.tables import schema, write_scorer
from vlfilter.data.scores import Scores
from vlfilter.data.shards import list_shards
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.report.html import build_report
from vlfilter.report.plots import score_histograms

SCRIPT = "<script>alert(1)</script>"
ATTRIBUTE = '"onerror="alert(2)'
ROWS = 40


class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, text, ids."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data.strip()}" if data.strip() else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_scores(root: Path, url: str | None = None) -> str:
    """Two shards of real tars, two scorers, hostile captions, keys and reasons; returns the place of the tables."""
    scores = url or str(root / "scores")
    random = np.random.default_rng(3)
    for number in range(2):
        keys = [f"{number}{row:03d}" for row in range(ROWS)]
        keys[1], keys[2] = f"k{ATTRIBUTE}{number}", f"<b>{number}"
        samples = [(key, pair(key, f"{SCRIPT}{ATTRIBUTE} {key}", jpeg(i, (300, 200)))) for i, key in enumerate(keys)]
        samples[0] = (keys[0], {"jpg": b"broken", "txt": b"a caption"})
        make_tar(root / "data" / f"{number}.tar", samples)
        shard = next(s for s in list_shards(str(root / "data")) if s.name == str(number))
        clip = [float(v) for v in random.normal(0.25, 0.05, ROWS)]
        clip[1], clip[2] = 0.9, -0.9
        status, reason = ["corrupt_image"] + ["ok"] * (ROWS - 1), [f"{SCRIPT} at byte {number}"] + [None] * (ROWS - 1)
        values = [None, *clip[1:]]
        write_scorer(
            scores, "clip", shard, {"clip_score": values}, schema(clip_score=pa.float32()), keys=keys,
            status=status, reason=reason, parts={"model": SCRIPT, "prompt": ATTRIBUTE},
        )  # fmt: skip
        quality = [None, *(int(10 * v) for v in clip[1:])]
        write_scorer(
            scores, "judge", shard, {"quality": quality, "length": [3] * ROWS},
            schema(quality=pa.int16(), length=pa.int32()), keys=keys, status=status, reason=reason,
        )  # fmt: skip
    return scores


def build(root: Path, where: str | None = None, thumbnails: int = 4) -> tuple[str, Page]:
    build_report(make_scores(root), str(root / "report.html"), where=where, thumbnails=thumbnails)
    html = (root / "report.html").read_text()
    return html, Page(html)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    html, page = build(tmp_path)
    assert page.all("script") == []
    assert "&lt;b&gt;0</span>" in html
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert SCRIPT in page.text  # captions, reasons and the model's name are there, as text
    assert "<script>alert(#)</script> at byte #" in page.text
    assert ATTRIBUTE in page.text


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    html, page = build(tmp_path)
    assert page.all("link") == page.all("iframe") == page.all("object") == []
    for attributes in page.all("img"):
        assert re.match(r"data:image/(jpeg|svg\+xml);base64,", attributes["src"] or "")
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= ids
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "url(" not in html.split("</style>")[0]
    assert "@import" not in html


def test_thumbnails_are_small_and_the_right_ones(tmp_path: Path) -> None:
    html, page = build(tmp_path, where="clip_score >= top(30%)")
    images = [a["src"] or "" for a in page.all("img") if (a["src"] or "").startswith("data:image/jpeg")]
    assert len(images) == 16  # four strips of four
    for image in images:
        opened = Image.open(io.BytesIO(base64.b64decode(image.split(",")[1])))
        assert opened.size == (160, 107)
    table = pa.concat_tables(t for _, t in Scores.open(str(tmp_path / "scores")).stream(["key", "clip_score"]))
    rows = sorted(
        ((value, key) for key, value in zip(*table.to_pydict().values(), strict=True) if value is not None),
        reverse=True,
    )
    strips = re.findall(r"<h4>(Best|Worst|Just kept|Just dropped)</h4>(.*?)(?=<h[34]>|</section>)", html, re.DOTALL)
    shown = {name: re.findall(r'class="key">(.*?)</span>', strip) for name, strip in strips}
    kept = 78 * 30 // 100
    assert shown["Best"][:2] != shown["Worst"][:2]
    assert shown["Best"][2:] == [key for _, key in rows[2:4]]
    assert shown["Worst"][2:] == [key for _, key in rows[:-5:-1]][2:]
    assert shown["Just kept"] == [key for _, key in rows[kept - 1 : kept - 5 : -1]]
    assert shown["Just dropped"] == [key for _, key in rows[kept : kept + 4]]
    assert f"keeps {kept} of 80 samples" in page.text


def test_numbers_on_the_page(tmp_path: Path) -> None:
    _, page = build(tmp_path)
    assert "80 samples" in page.text
    assert "corrupt_image 2" in page.text
    assert page.text.count("keeps 23 of 80 samples") == 2  # by default the top 30% of each scorer's first score
    assert "`" not in page.text
    plots = [a for a in page.all("img") if (a["src"] or "").startswith("data:image/svg")]
    assert len(plots) == 4  # three columns, and the scatter plots
    assert "model" in page.text
    assert "print-of-clip" in page.text


def test_a_rule_over_two_scorers(tmp_path: Path) -> None:
    _, page = build(tmp_path, where="quality >= 2 and clip_score >= top(50%)")
    assert page.text.count("quality >= 2 and clip_score >= top(50%)") == 2  # seen along each of its columns
    with pytest.raises(VlfilterError, match="no column 'missing'"):
        build_report(str(tmp_path / "scores"), str(tmp_path / "report.html"), where="missing > 1")


def test_shards_that_are_gone_or_changed_are_told(tmp_path: Path) -> None:
    scores = make_scores(tmp_path)
    (tmp_path / "data" / "0.tar").unlink()
    make_tar(tmp_path / "data" / "1.tar", [(f"other{n}", pair(f"other{n}")) for n in range(ROWS - 5)])
    build_report(scores, str(tmp_path / "report.html"))
    page = Page((tmp_path / "report.html").read_text())
    assert "the shard cannot be read" in page.text
    assert "the shard has changed since" in page.text
    assert not [a for a in page.all("img") if (a["src"] or "").startswith("data:image/jpeg")]


def test_no_pictures_when_none_are_wanted(tmp_path: Path) -> None:
    _, page = build(tmp_path, thumbnails=0)
    assert page.all("figure") == []


def test_documents_show_their_first_picture(tmp_path: Path) -> None:
    make_tar(tmp_path / "data" / "0.tar", [("d", document([SCRIPT, None, "more"], [None, jpeg(), None]))])
    (shard,) = list_shards(str(tmp_path / "data"))
    write_scorer(str(tmp_path / "s"), "judge", shard, {"x": [1.0]}, schema(x=pa.float64()), keys=["d"])
    build_report(str(tmp_path / "s"), str(tmp_path / "report.html"))
    page = Page((tmp_path / "report.html").read_text())
    assert f"{SCRIPT} … more" in page.text
    assert page.all("script") == []
    assert (
        len([a for a in page.all("img") if (a["src"] or "").startswith("data:image/jpeg")]) == 3
    )  # best, worst, just dropped


def test_scorers_that_differ_in_shards(tmp_path: Path) -> None:
    scores = make_scores(tmp_path)
    (tmp_path / "scores" / "judge" / "1.parquet").unlink()
    build_report(scores, str(tmp_path / "report.html"))
    assert "judge has tables of 1 of 2 shards only" in Page((tmp_path / "report.html").read_text()).text


@pytest.mark.parametrize("values", [[], [None, None], [float("nan"), float("inf")], [2.0, 2.0]])
def test_few_or_no_values(tmp_path: Path, values: list[float | None]) -> None:
    status = ["ok" if value == 2.0 else "failed" for value in values]
    for column in ("x", "y$_y$"):
        write_scorer(
            str(tmp_path / "s"), f"of_{column[0]}", "a", {column: values}, schema(**{column: pa.float32()}),
            status=status,
        )  # fmt: skip
    build_report(str(tmp_path / "s"), str(tmp_path / "report.html"))
    assert "Score report" in (tmp_path / "report.html").read_text()
    assert score_histograms(str(tmp_path / "s")).startswith(b"\x89PNG")


def test_report_in_and_out_of_s3(s3: str, tmp_path: Path) -> None:
    scores = make_scores(tmp_path, url=f"{s3}/scores")
    build_report(scores, f"{s3}/reports/report.html", thumbnails=1)
    assert len(Page(read_bytes(f"{s3}/reports/report.html").decode()).all("figure")) == 8


def test_histograms_are_one_picture(tmp_path: Path) -> None:
    image = Image.open(io.BytesIO(score_histograms(make_scores(tmp_path))))
    assert image.width > 1000
    with pytest.raises(VlfilterError, match="no score tables"):
        score_histograms(str(tmp_path / "nothing"))


def test_other_names_and_missing_tables(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match=r"\.html"):
        build_report(str(tmp_path), str(tmp_path / "report.pdf"))
    with pytest.raises(VlfilterError, match="no score tables"):
        build_report(str(tmp_path), str(tmp_path / "report.html"))
