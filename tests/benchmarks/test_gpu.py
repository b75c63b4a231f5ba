"""Parts of the GPU's benchmark that were measured on different days and machines stand in one table."""

from __future__ import annotations

from benchmarks.gpu import CASES, PARTS, lines

CASE = {
    "engine_samples_per_s": 900.0,
    "bare_samples_per_s": 1000.0,
    "loop_samples_per_s": 300.0,
    "gflop_a_sample": 100.0,
    "matrix_tflop_per_s": 200.0,
    "share": 0.9,
}


def test_each_line_names_the_gpu_of_its_part() -> None:
    run = {"wall_s": 10.0}
    found = {
        "gpus": {"clip_score": "GPU A", "host": "GPU A", "correct": "GPU B", "selection": "GPU B"},
        "clip_score": CASE,
        "host": dict.fromkeys(CASES, 5000.0),
        "correct": {"unifilter": {"float32": 1e-5, "bfloat16": 0.02, "samples": 8, "spread": [0.3]}},
        "selection": {"cuda": run, "cpu": run, "port_s_a_pick": 0.1},
    }
    told = [(line.what, line.value, line.met, line.baseline) for line in lines(found)]
    assert {what.partition(",")[0] for what, *_ in told} == {"GPU A", "GPU B"}
    preset = CASES["clip_score"].preset
    assert (f"GPU A, {preset}, scoring: share of the bare forward's speed", 90.0, True, None) in told
    assert (f"GPU A, {preset}, scoring: FLOP used, of those of a large matrix product", 45.0, None, 50.0) in told
    ready = {what.partition(":")[0]: baseline for what, _, _, baseline in told if "made ready" in what}
    assert ready == {"GPU A, clip_score": 1000.0, "GPU A, unifilter": None, "GPU A, mlm_filter": None}
    assert ("GPU B, unifilter: largest difference from float32 on the CPU, float32", 1e-5, True, None) in told
    assert {part for part in PARTS if part not in found} == {"unifilter", "mlm_filter"}
