"""CPU time of `clip_score` on 10 tars × 1,000 JPEG pairs, beside clip-retrieval 2.45 and Data-Juicer 1.6, one model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clip_retrieval import exact_scores, run_clip_retrieval, scores
from benchmarks.data import SAMPLES, describe_shards, make_shards
from benchmarks.data_juicer import run_data_juicer
from benchmarks.harness import Line, Measured, at_most, cache_folder, python, run_program, scratch_folder, write_result
from benchmarks.models import clip_tiny
from benchmarks.tables import column_by_key

SHARDS, FEW = 10, 2
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one system over all tars and over a few: the difference is free of imports and of loading the model."""

    all_tars: Measured
    few_tars: Measured

    @property
    def raw(self) -> float:
        """ms a sample, everything included."""
        return self.all_tars.cpu_s / (SHARDS * SAMPLES) * 1e3

    @property
    def net(self) -> float:
        """ms for one more sample."""
        return (self.all_tars.cpu_s - self.few_tars.cpu_s) / ((SHARDS - FEW) * SAMPLES) * 1e3

    def as_json(self) -> dict[str, Any]:
        return {
            "cpu_ms_a_sample": round(self.raw, 3),
            "cpu_ms_for_one_more_sample": round(self.net, 3),
            f"{SHARDS}_tars": self.all_tars.as_json(),
            f"{FEW}_tars": self.few_tars.as_json(),
        }


def parameters(tars: list[Path], output: Path) -> dict[str, Any]:
    return {
        "shards": [str(tar) for tar in tars],
        "output": str(output),
        "scorer": ["clip_score"],
        "model": {"clip_score": str(clip_tiny())},
        "workers": WORKERS,
    }


def engine(tars: list[Path], output: Path) -> Measured:
    return run_program(python("benchmarks.programs.score_engine", json.dumps(parameters(tars, output))))[0]


def command_line(tars: list[Path], output: Path) -> Measured:
    """`vlfilter score`: the flow and the server that Prefect starts for it; its database is there from earlier runs."""
    command = [str(Path(sys.executable).with_name("vlfilter")), "score", "--scorer", "clip_score"]
    command += ["--output", str(output), "--model", f"clip_score={clip_tiny()}", "--workers", str(WORKERS)]
    for tar in tars:
        command += ["--shards", str(tar)]
    return run_program(command, {"PREFECT_HOME": str(cache_folder() / "prefect"), "PREFECT_API_URL": ""})[0]


def largest_difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    if not theirs or not theirs.keys() <= ours.keys():
        raise SystemExit("clip-retrieval and vlfilter did not score the same samples")
    return float(max(abs(ours[key] - score) for key, score in theirs.items()))


def run() -> bool:
    folder = make_shards(SHARDS)
    tars = sorted(folder.glob("*.tar"))
    few = tars[:FEW]
    with scratch_folder("clip-score") as place:
        scratch = Path(place)
        ours = Cost(engine(tars, scratch / "ours"), engine(few, scratch / "ours-few"))
        flow_few = command_line(few, scratch / "flow-few")
        flow = Cost(command_line(tars, scratch / "flow"), flow_few)
        theirs = Cost(
            run_clip_retrieval(tars, clip_tiny(), scratch / "theirs", WORKERS),
            run_clip_retrieval(few, clip_tiny(), scratch / "theirs-few", WORKERS),
        )
        found = column_by_key(scratch / "ours" / "clip_score", "clip_score")
        same = column_by_key(scratch / "flow" / "clip_score", "clip_score")
        rounded = largest_difference(found, scores(scratch / "theirs"))
        juicer, similar = run_data_juicer(few, clip_tiny(), scratch / "juicer", WORKERS)
        one, _ = run_data_juicer(few[:1], clip_tiny(), scratch / "juicer-one", WORKERS)
        exact = largest_difference(found, exact_scores(few, clip_tiny(), scratch / "exact.json"))
    if same != found or len(found) != SHARDS * SAMPLES:
        raise SystemExit("the flow's scores differ from the engine's, or some are missing")
    name = "clip-retrieval 2.45.0"
    raw: dict[str, Any] = {"baseline": round(theirs.raw, 3), "baseline_name": name}
    net: dict[str, Any] = {"baseline": round(theirs.net, 3), "baseline_name": name}
    if not np.corrcoef([found[key] for key in similar], list(similar.values()))[0, 1] > 0.999:  # its scale is another
        raise SystemExit("Data-Juicer's similarities are not our scores")
    more = (juicer.cpu_s - one.cpu_s) / ((FEW - 1) * SAMPLES) * 1e3
    lines = [
        at_most("all of it, engine", round(ours.raw, 3), "CPU-ms a sample", 4.5, **raw),
        Line("all of it, flow and command line", round(flow.raw, 3), "CPU-ms a sample", **raw),
        at_most("one more sample, engine", round(ours.net, 3), "CPU-ms", 4.5, **net),
        at_most("one more sample, flow and command line", round(flow.net, 3), "CPU-ms", 4.5, **net),
        Line("one more sample, Data-Juicer 1.6.1, tars unpacked beforehand", round(more, 3), "CPU-ms"),
        at_most("largest difference from clip-retrieval's float32 scores", exact, "", 1e-4),
    ]
    details = {
        "data": describe_shards(folder),
        "workers": WORKERS,
        "engine": ours.as_json(),
        "command_line": flow.as_json(),
        "clip_retrieval": theirs.as_json(),
        "data_juicer": {f"{FEW}_tars": juicer.as_json(), "1_tar": one.as_json()},
        "score_spread": float(np.std(list(found.values()))),
        "largest_difference_from_half_precision_embeddings": rounded,
    }
    return write_result("clip_score", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
