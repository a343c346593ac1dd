"""What an owner adds to the sum of a step: gradients of the rows that it drew, each clipped, added up as integers.

All of it happens in the owner's worker, on its own rows in the clear. The number of rows that are computed with, the size of the
blocks and the shape of every array are public and alike in every step; padding, rows that the coins left out of an overflowing
draw, and rows whose gradient is no number contribute zeros.

Learns: nobody anything. The sum is secret; only shares of it leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.job import Job
from protocols.model.plain_layers import Float64, Weights
from protocols.model.row_gradients import row_gradients
from protocols.mpc.inputs import Rows
from protocols.mpc.noise_design import private_terms
from protocols.mpc.noisy_sums_design import (
    FINE_BITS,
    SCALE_BITS,
    batch_of,
    canaries_of,
    fine_bound,
    num_coordinates,
    trained_numbers,
)
from protocols.mpc.noisy_sums_sampling import draw_sample, training_of
from protocols.ring import RingArray

_BLOCK_NUMBERS = 1 << 21  # of gradients that are in memory at once, 16 MiB
_UNIT_ROUNDING = 2.0**-53


@dataclass(frozen=True, repr=False, eq=False)
class CanaryScores:
    """What the owner of canaries saw of them; secret until a bound is computed from it.

    Attributes:
        scores: (canaries,) float64: the sum over all steps of the opened coordinate, in units of the norm bound.
        included: (canaries,) bool: the owner's coins.
    """

    scores: Float64
    included: NDArray[np.bool_]


class Contributions:
    """One owner's side of all steps.

    Args:
        job: the training.
        party: this owner.
        rows: its rows, by position in the job's data sets.
        random: gives so many uniform bytes, from the system's generator; for draws and coins, each used once.
    """

    def __init__(self, *, job: Job, party: str, rows: Mapping[int, Rows], random: Callable[[int], bytes]) -> None:
        self._job = job
        self._training = training_of(job)
        self._random = random
        self._canaries = canaries_of(job, party)
        parts = [rows[index] for index in sorted(rows)]
        self._features: Float64 = np.concatenate([np.asarray(features, np.float64) for features, _ in parts])
        self._labels: Float64 = np.concatenate([np.asarray(labels, np.float64) for _, labels in parts])
        coins = np.frombuffer(random(len(self._canaries)), np.uint8) if self._canaries else np.zeros(0, np.uint8)
        self._included: NDArray[np.bool_] = (coins & 1).astype(np.bool_)
        self._scores = np.zeros(len(self._canaries))
        self._batch = batch_of(job, party)
        self._trained = trained_numbers(job)

    def next_sum(self, weights: Weights) -> RingArray:
        """Draws a sample and returns its sum: (coordinates,) int64 in units of 2^-20, secret; weights are public."""
        taken = self._draw()
        total = np.zeros(num_coordinates(self._job), np.int64)
        real = len(self._features)
        chosen = np.concatenate([taken[taken < real], np.zeros(self._batch - int((taken < real).sum()), np.int64)])
        counts = np.arange(self._batch) < (taken < real).sum()
        block = max(1, _BLOCK_NUMBERS // self._trained)
        for start in range(0, self._batch, block):
            part, here = chosen[start : start + block], counts[start : start + block]
            gradients = row_gradients(
                self._job.model,
                weights,
                self._features[part],
                self._labels[part],
                loss=self._training.loss,
                task=self._job.task,
            )
            total[: self._trained] += clipped_integers(gradients, bound=fine_bound(self._job), counts=here).sum(axis=0)
        planted = np.zeros(len(self._canaries), np.int64)
        planted[taken[taken >= real] - real] = fine_bound(self._job)
        first = self._trained + self._canaries.start
        total[first : first + len(planted)] = planted * self._included
        return rounded(total)

    def see(self, opened: RingArray) -> None:
        """Takes the opened sum of a step: (coordinates,) int64; scores this owner's canaries."""
        first = self._trained + self._canaries.start
        unit = float(private_terms(self._job).norm_bound) * 2.0**SCALE_BITS
        self._scores += opened[first : first + len(self._canaries)] / unit

    def canary_scores(self) -> CanaryScores | None:
        """Returns what came of the canaries; None if this owner has none."""
        return CanaryScores(self._scores, self._included) if self._canaries else None

    def _draw(self) -> NDArray[np.int64]:
        """Positions that were drawn, rows first, canaries after; none if they are more than fit."""
        taken = draw_sample(
            len(self._features) + len(self._canaries),
            batch_size=self._training.batch_size,
            nominal_rows=private_terms(self._job).nominal_rows,
            random=self._random,
        )
        positions: NDArray[np.int64] = np.flatnonzero(taken).astype(np.int64)
        return positions if len(positions) <= self._batch else positions[:0]


def clipped_integers(gradients: Float64, *, bound: int, counts: NDArray[np.bool_]) -> RingArray:
    """Brings gradients of rows to integers of bounded norm.

    Args:
        gradients: (rows, numbers) float64, secret; any values, NaN and infinity among them.
        bound: the largest norm that a row may have, in units of 2^-36; below 2^47.
        counts: (rows,) bool: whether a row counts at all, secret.

    Returns:
        (rows, numbers) int64 in units of 2^-36, secret. The Euclidean norm of every row is at most `bound`, exactly: it is tested
        on the integers, and a row that failed would be zero. A row whose gradient has no finite norm, or does not count, is zero.
    """
    # A sum of so many squares that are not negative is off by less than this share of itself, in whatever order it is added up.
    margin = (gradients.shape[1] + 4) * 2 * _UNIT_ROUNDING
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.einsum("rd,rd->r", gradients, gradients))
        fine = float(1 << (SCALE_BITS + FINE_BITS))
        factors = np.minimum(fine, bound * (1 - 2 * margin) / norms)
        good = counts & np.isfinite(norms)
        scaled = np.where(good[:, None], gradients * np.where(good, factors, 0.0)[:, None], 0.0)
    within = np.trunc(scaled)  # whole numbers below 2^53: exact as integers
    squares = np.einsum("rd,rd->r", within, within)
    keeps = squares <= float(bound) ** 2 * (1 - margin)
    return np.where(keeps[:, None], within, 0.0).astype(np.int64)


def rounded(total: RingArray) -> RingArray:
    """Returns integers in units of 2^-36 as units of 2^-20, to the nearest; each moves by at most half a unit."""
    return (total + (1 << (FINE_BITS - 1))) >> FINE_BITS
