"""Selection rules that papers name, as expressions over our columns: `vlfilter select --recipe NAME`.

Sources: MLM-Filter (arXiv 2403.02677) and the selection script of its authors (Open-Qwen2VL's fork of DataComp's
`baselines.py`); Open-Qwen2VL (arXiv 2504.00595); UniFilter (arXiv 2510.15162); DataComp (arXiv 2304.14108).
"""

from __future__ import annotations

from dataclasses import dataclass

from vlfilter.errors import VlfilterError

PERCENTAGES = (10, 20, 30, 40, 50)
METRICS = {
    "itm": "image_text_matching",
    "odf": "object_detail_fulfillment",
    "ctq": "caption_text_quality",
    "su": "semantic_understanding",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`where` is the expression, `source` says where it was published and what is peculiar to it."""

    name: str
    where: str
    source: str


LEVELS = ("easy negatives", "medium negatives", "hard negatives", "positives")


def _score(metric: str) -> str:
    return f"mlm_filter.{METRICS[metric]}_score"


def _published() -> list[Recipe]:
    return [
        Recipe(
            "itm66_odf20",
            f"{_score('itm')} >= 66 and {_score('odf')} >= 20",
            "MLM-Filter's best of DataComp medium (CLIP itm_th_66_AND_odf_th_20), on the decoded integers",
        ),
        Recipe(
            "su85",
            f"{_score('su')} >= 85",
            "Open-Qwen2VL's pre-training data, scored by the Qwen2.5-1.5B filter, on the decoded integers",
        ),
        Recipe(
            "obelics_hq_5m",
            "unifilter.quality_score >= top(5000000)",
            "UniFilter's published subset of OBELICS: the best 5 million of 141 million documents (its size; the "
            "authors' threshold is not published)",
        ),
    ]


def _fractions() -> list[Recipe]:
    """Top fractions. DataComp's rule for floats keeps int(N·f) + 1 rows and all ties; for MLM-Filter's integers its
    authors keep int(N·f), ties by lot, which here is exact and the same on every run."""
    recipes = [
        Recipe(
            f"datacomp_clip_top{percent}",
            f"clip_score.clip_score >= top({percent}%, datacomp)",
            f"DataComp's CLIP score baseline at {percent}%, with its rule: n = int(N·f), all rows from place n up",
        )
        for percent in PERCENTAGES
    ]
    recipes += [
        Recipe(
            f"datacomp_unifilter_top{percent}",
            f"unifilter.quality_score >= top({percent}%, datacomp)",
            f"UniFilter on DataComp at {percent}%, by the rule of its authors' script, which is DataComp's",
        )
        for percent in PERCENTAGES
    ]
    for metric in METRICS:
        recipes += [
            Recipe(
                f"datacomp_{metric}_top{percent}",
                f"{_score(metric)} >= top({percent}%)",
                f"the fraction rule of MLM-Filter's authors at {percent}%: n = int(N·f) rows",
            )
            for percent in PERCENTAGES
        ]
    return recipes


def _levels() -> list[Recipe]:
    """By UniFilter's level: the score rounded, or the likeliest class."""
    return [
        Recipe(
            f"unifilter_level{level}",
            f"unifilter.quality_class >= {level}",
            f"what UniFilter judges to be {' or '.join(LEVELS[level:])}",
        )
        for level in (1, 2, 3)
    ]


RECIPES = {recipe.name: recipe for recipe in (*_published(), *_fractions(), *_levels())}


def recipe(name: str) -> Recipe:
    """A recipe by name. Raises `VlfilterError` for an unknown one."""
    if name not in RECIPES:
        named = ", ".join(one.name for one in (*_published(), *_levels()))
        metrics, amounts = ", ".join(METRICS), ", ".join(map(str, PERCENTAGES))
        raise VlfilterError(
            f"no recipe is called {name!r}. There are: {named}, and datacomp_X_topN for X of clip, unifilter, "
            f"{metrics} and N of {amounts}."
        )
    return RECIPES[name]
