"""Means over a candidate's tokens, and version 2's over all positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.methods.data_engine.fixtures import COPIED
from vlfilter.evaluation.choices import over_positions


def test_the_published_reductions() -> None:
    told = np.load(COPIED / "v2" / "loss_reduction.npz")
    logs = torch.tensor(told["logits"]).double().log_softmax(-1)[:, :-1]
    labels = torch.tensor(told["labels"])[:, 1:]
    for row in range(len(labels)):
        learnt = labels[row] >= 0
        losses = -logs[row, learnt].gather(1, labels[row, learnt][:, None])[:, 0]
        mean, tokens = float(losses.mean()), int(learnt.sum())
        assert mean == pytest.approx(float(told["per_row_mean_over_answer_tokens"][row]), abs=1e-6)
        published = float(told["v2_none_mean_over_all_positions"][row])
        assert over_positions(mean, tokens, labels.shape[1]) == pytest.approx(published, abs=1e-6)
