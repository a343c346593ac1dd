"""A small network that is served, and what it predicts in the clear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protocols.job import Job, JobType, OutputKind, Task
from protocols.job_parts import Serving
from tests.support.mpc_world import a_job
from tests.support.programs import PARTIES, a_network, some_weights

MODEL = a_network(5, 3)
WEIGHTS = some_weights(MODEL)
SERVING = Serving(block_rows=4, max_queries=20, max_rows=60, idle_s=30, lifetime_s=30, rekey_s=15)


def a_served_model(*, parties: int = 2, kind: OutputKind = OutputKind.LABEL, **changes: int) -> Job:
    """A job that serves it in blocks of four rows; changes are to `Serving`."""
    return a_job(
        JobType.SERVE,
        model=MODEL,
        task=Task.CLASSES,
        output=kind,
        computing=PARTIES[:parties],
        dealer="gamma",
        serving=replace(SERVING, **changes),
    )


def some_rows(count: int, *, seed: int = 3) -> np.ndarray:
    """Rows that are exact at 16 fractional bits."""
    return np.rint(np.random.default_rng(seed).uniform(-1, 1, (count, 5)) * 2**16) / 2**16


def logits_of(rows: np.ndarray) -> np.ndarray:
    """The network in float64."""
    hidden = np.maximum(rows @ WEIGHTS["first.weight"].T + WEIGHTS["first.bias"], 0)
    return hidden @ WEIGHTS["second.weight"].T + WEIGHTS["second.bias"]


def labels_of(rows: np.ndarray) -> np.ndarray:
    """The class of the largest logit."""
    return logits_of(rows).argmax(axis=1)
