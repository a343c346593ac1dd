"""Protections of what is told of rows themselves: a minimum cell and noise on counts by group, and k-anonymous values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.ablation.lines import AblatedRows, Line, Part
from privacy.ablation.protections import OVERFITTED, Measure, membership_line
from privacy.figures import Figure
from privacy.preparation.anonymity.search import Demand, Hierarchy, search
from privacy.risk.intervals import mean, wilson

CELLS = ((1, 0.0), (5, 0.0), (20, 0.0), (20, 3.0))  # minimum cell and deviation of the noise
KS = (2, 5, 20)


def statistics_lines(groups: NDArray[np.int64], is_positive: NDArray[np.bool_], *, seed: int) -> Iterator[Measure]:
    """Yields what measures protections of a table of counts by group.

    `outright.share`: of all rows, those whose label the table tells for certain. `difference.gain`: how many more labels are
    guessed right from the same table with one row less, by the best guess. `told.share`: of all rows, those in groups that are
    told. `share.error`: how far the groups' shares of positive rows are off.

    Args:
        groups: (rows,) from 0, secret.
        is_positive: (rows,) the label, secret.
        seed: of the noise.
    """
    label = is_positive.astype(np.float64)
    sizes, positive = np.bincount(groups), np.bincount(groups, weights=label)

    def line(setting: str, least: int, deviation: float) -> Line:
        draw = np.random.default_rng(seed)
        told = sizes + draw.normal(0, deviation, sizes.shape) >= least
        shares = (positive + draw.normal(0, deviation, positive.shape)) / np.maximum(sizes, 1)
        certain = told & ((positive == 0) | (positive == sizes)) & (deviation == 0)
        # The same table once more with one row less; what a group lost is the label, if both tables tell the group.
        both = told[groups] & (sizes[groups] - 1 >= least)
        variance, prior = 2 * deviation**2, float(label.mean())
        lost = label + draw.normal(0, np.sqrt(variance), label.shape)
        # The best guess: yes, if the likelihood ratio outweighs how rare a yes is; never, if there is none.
        least_lost = 0.5 - variance * np.log(prior / (1 - prior)) if 0 < prior < 1 else 0.5
        guessed = np.where(both & (prior > 0), lost > least_lost, prior > 0.5) == is_positive
        alone = np.asarray((prior > 0.5) == is_positive, np.float64)
        off = np.abs(np.clip(shares, 0, 1) - positive / np.maximum(sizes, 1))[told]
        weights = sizes[told] / max(int(sizes[told].sum()), 1)
        error = float(off @ weights)
        attack = {
            "outright.share": wilson(int(sizes[certain].sum()), len(label)),
            "difference.gain": mean(np.asarray(guessed, np.float64) - alone),
        }
        analysis = {
            "told.share": wilson(int(sizes[told].sum()), len(label)),
            "share.error": Figure(error, error, error),
        }
        return Line(Part.STATISTICS, setting, attack, analysis)

    for least, deviation in CELLS:
        words = "off" if least == 1 else f"minimum cell {least}" + (f", noise {deviation:g}" if deviation else "")
        yield partial(line, words, least, deviation)


@dataclass(frozen=True, eq=False, repr=False)
class QuasiColumns:
    """Columns by which somebody could be singled out; secret.

    Attributes:
        hierarchies: what can be made of each; public.
        values: of each column, the values that occur, ascending.
        codes: (rows, columns) int64, which of them each row has.
    """

    hierarchies: Sequence[Hierarchy]
    values: Sequence[pa.Array]
    codes: NDArray[np.int64]


def quasi_columns(columns: Sequence[NDArray[np.float64]], hierarchies: Sequence[Hierarchy]) -> QuasiColumns:
    """Returns columns as `generalised` takes them; values may be of any sortable type."""
    coded = [np.unique(column, return_inverse=True) for column in columns]
    return QuasiColumns(hierarchies, [pa.array(known) for known, _ in coded], np.column_stack([codes for _, codes in coded]))


def generalised(quasi: QuasiColumns, k: int) -> tuple[list[pa.Array], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the least general values in which k rows are alike.

    Args:
        quasi: the columns.
        k: from 2.

    Returns:
        Of each column the value that stands for each that occurs; the size of each row's group, (rows,); and which rows stay,
        (rows,).

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): nothing does without leaving out too many rows.
    """
    tuples, counts = np.unique(quasi.codes, axis=0, return_counts=True)
    best = search(quasi.values, tuples.astype(np.int64), counts.astype(np.int64), quasi.hierarchies, Demand(k))
    changed = []
    for hierarchy, level, known in zip(quasi.hierarchies, best.levels, quasi.values, strict=True):
        if level > len(hierarchy.levels):
            changed.append(pa.array(np.zeros(len(known))))  # dropped
        else:
            changed.append(known if level == 0 else hierarchy.levels[level - 1].apply(known))
    alike = [np.unique(made.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1] for made in changed]
    rows = np.column_stack([found[quasi.codes[:, place]] for place, found in enumerate(alike)])
    _, groups, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    of_row = sizes[groups.reshape(-1)]
    return changed, np.asarray(of_row, np.int64), np.asarray(of_row >= k, np.bool_)


def preparation_lines(
    quasi: QuasiColumns, rows_of: Callable[[Sequence[pa.Array], NDArray[np.bool_]], AblatedRows], *, seed: int
) -> Iterator[Measure]:
    """Yields what measures k-anonymous rows: whom the columns single out, and a network that is trained on what is left.

    Args:
        quasi: the columns.
        rows_of: makes rows for a network, of the values that stand for each column's, and of which rows stay.
        seed: of everything that is drawn.
    """

    def line(setting: str, k: int) -> Line:
        if k == 1:
            _, groups, sizes = np.unique(quasi.codes, axis=0, return_inverse=True, return_counts=True)
            changed: Sequence[pa.Array] = quasi.values
            counts, kept = sizes[groups.reshape(-1)], np.ones(len(quasi.codes), np.bool_)
        else:
            changed, counts, kept = generalised(quasi, k)
        made = membership_line(Part.PREPARATION, setting, rows_of(changed, kept), OVERFITTED, seed=seed)
        alone = wilson(int((kept & (counts == 1)).sum()), len(counts))
        left_out = mean(np.asarray(~kept, np.float64))
        return Line(
            Part.PREPARATION,
            setting,
            {"singled_out.share": alone, **made.attack},
            {**made.analysis, "left_out.share": left_out},
        )

    for k in (1, *KS):
        yield partial(line, "off" if k == 1 else f"k = {k}", k)
