from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.selection.tables import schema, write_scorer
from vlfilter.errors import VlfilterError
from vlfilter.scoring.mlm_filter_prompts import METRICS as PUBLISHED
from vlfilter.selection.recipes import METRICS, RECIPES, recipe
from vlfilter.selection.select import Selection, select


def choose(root: Path, name: str) -> tuple[Selection, list[str]]:
    found = select(str(root), str(root / "kept.parquet"), where=recipe(name).where)
    return found, pq.read_table(root / "kept.parquet")["key"].to_pylist()


def scores(root: Path, **metrics: list[float | None]) -> None:
    kinds = {f"{METRICS[metric]}_score": pa.float32() for metric in metrics}
    columns = {f"{METRICS[metric]}_score": values for metric, values in metrics.items()}
    write_scorer(str(root), "mlm_filter", "0", columns, schema(**kinds))


def test_the_papers_operating_points(tmp_path: Path) -> None:
    scores(tmp_path, itm=[66, 65.9, 66, None, 100], odf=[20, 90, 19.9, 50, 20], su=[85, 84, None, 99, 0])
    assert choose(tmp_path, "itm66_odf20")[1] == ["00000", "00004"]
    assert choose(tmp_path, "su85")[1] == ["00000", "00003"]


def test_a_fraction_of_integers_keeps_exactly_so_many(tmp_path: Path) -> None:
    scores(tmp_path, itm=[95, 90, 88, 85, 85, 85, 70, 60, 50, 40])
    found, kept = choose(tmp_path, "datacomp_itm_top40")
    assert found.kept == 4  # where the published script keeps every tie once its lot falls on probability zero
    assert set(kept[:3]) == {"00000", "00001", "00002"}
    assert choose(tmp_path, "datacomp_itm_top30")[1] == ["00000", "00001", "00002"]


def test_datacomps_own_fraction_keeps_one_row_more(tmp_path: Path) -> None:
    values = [x / 10 for x in range(10)]
    write_scorer(str(tmp_path), "clip_score", "0", {"clip_score": values}, schema(clip_score=pa.float64()))
    ordered = -np.sort(-np.array(values))
    threshold = ordered[int(len(values) * 0.3)]
    assert len(choose(tmp_path, "datacomp_clip_top30")[1]) == int((np.array(values) >= threshold).sum()) == 4


def test_unifilters_levels_and_fractions(tmp_path: Path) -> None:
    columns = {"quality_score": [2.9, 2.4, 1.6, 0.4, None], "quality_class": [3, 2, 2, 0, None]}
    kinds = {"quality_score": pa.float32(), "quality_class": pa.int8()}
    write_scorer(str(tmp_path), "unifilter", "0", columns, schema(**kinds))
    assert choose(tmp_path, "unifilter_level3")[1] == ["00000"]
    assert choose(tmp_path, "unifilter_level2")[1] == ["00000", "00001", "00002"]
    assert choose(tmp_path, "datacomp_unifilter_top50")[1] == ["00000", "00001", "00002"]  # int(4 · 0.5) + 1
    assert choose(tmp_path, "obelics_hq_5m")[0].kept == 4


def test_recipes_know_every_metric_and_each_says_where_it_is_from() -> None:
    assert sorted(METRICS.values()) == sorted(PUBLISHED)
    assert len(RECIPES) == 3 + 5 * (1 + 1 + 4) + 3
    assert all(one.source and one.name == name for name, one in RECIPES.items())


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(VlfilterError, match=r"no recipe is called 'itm67'.* itm66_odf20, su85, "):
        recipe("itm67")


def test_a_recipe_without_its_scores_says_what_is_missing(tmp_path: Path) -> None:
    scores(tmp_path, itm=[66])
    with pytest.raises(VlfilterError, match="object_detail_fulfillment_score"):
        choose(tmp_path, "itm66_odf20")
