"""The learning rate of MLLM-DataEngine's and MiniGPT-v2's published runs."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmupCosine:
    """A straight rise from `start` to `rate` in `warmup` steps, then half a cosine from `rate` to `least`.

    The cosine is counted from the first step of all, so that it has already fallen a little when the rise ends. The
    rise is counted from the beginning of the epoch, as published: one longer than `epoch_steps` would begin again in
    the next epoch.
    """

    rate: float
    least: float
    warmup: int
    start: float
    epoch_steps: int
    epochs: int

    def at(self, step: int) -> float:
        """The rate of step `step`, counted from 0."""
        if step < self.warmup:
            risen = (self.rate - self.start) * (step % self.epoch_steps) / max(self.warmup, 1)
            return min(self.rate, self.start + risen)
        part = step / (self.epochs * self.epoch_steps)
        return (self.rate - self.least) * 0.5 * (1 + math.cos(math.pi * part)) + self.least
