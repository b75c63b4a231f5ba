"""`vlfilter demo`: the demo's steps with the real flow, reshard and report between them."""

from __future__ import annotations

from vlfilter.cli.choosing import console, run_reshard
from vlfilter.cli.scoring import run_score
from vlfilter.demo.layout import KEEP, METRICS, OPTIONS, Layout
from vlfilter.demo.run import Steps, main
from vlfilter.errors import VlfilterError


def run_demo(output: str, seed: int) -> None:
    """Raises `VlfilterError` when the photographs' libraries are not installed."""
    try:
        import skimage  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise VlfilterError(f"the demo needs {error.name}: pip install 'vlfilter[demo]'.") from None
    main(output, Steps(_score, _use), seed, say=console.print)


def _score(layout: Layout) -> None:
    run_score(
        {
            "shards": str(layout.shards),
            "output": str(layout.scores),
            "scorer": list(METRICS),
            "model": layout.models,
            "options": OPTIONS,
            "device": "cpu",
        }
    )


def _use(layout: Layout) -> None:
    """Write UniFilter's choice to new shards, and the report."""
    from vlfilter.report.html import build_report

    run_reshard([str(layout.shards)], str(layout.subset("unifilter")), str(layout.kept), 1000, 2)
    build_report(str(layout.scores), str(layout.report), where=f"unifilter.quality_score >= top({KEEP})")
    console.print(f"The report is {layout.report}.")
