"""The ablation of an institution's own rows: what it is measured with, how long it takes, and all of its lines.

Rows are prepared as for a training. Shadows are trained on halves of most of them, and predictions are judged on the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.ablation.clipped import PrivateSchedule, train_clipped
from privacy.ablation.lines import AblatedRows, Line, Part
from privacy.ablation.protections import (
    BOUND,
    HIDDEN,
    MOST_EPSILONS,
    OVERFITTED,
    RATE,
    STEPS,
    Measure,
    Settings,
    answer_lines,
    membership_line,
    training_lines,
)
from privacy.ablation.tables import preparation_lines, quasi_columns, statistics_lines
from privacy.preparation.anonymity.generalisations import Bands
from privacy.preparation.anonymity.search import Hierarchy
from privacy.preparation.contract import PreparedRows
from privacy.preparation.schema import TableSchema
from privacy.risk.shadows import Schedule
from protocols.errors import ConfideError, ErrorCode, Problem

LEAST_ROWS = 200  # a shadow is trained on a third of them
MOST_MEMBERS, MOST_OTHERS = 1_600, 4_000
LARGEST_CLASS_COUNT = 100
_OTHERS = Fraction(1, 3)
_BANDS = (16, 8, 4, 2)  # parts of a column's range
_PROBE_STEPS = 60
_ROOM = 2  # a run may take so many times what was foreseen
_LEAST_S = 5.0
_MOST_VALUES, _EIGHTHS = 16, 8


@dataclass(frozen=True, eq=False, repr=False)
class Ablation:
    """What is to be measured.

    Attributes:
        rows: for networks; secret.
        settings: public.
        lines: what measures each line, by part, in their order; the parts that were asked for and can be measured.
        left_out: why other parts cannot be, in words.
    """

    rows: AblatedRows
    settings: Settings
    lines: Sequence[tuple[Part, Measure]]
    left_out: Sequence[str]

    def foreseen_s(self, clock: Callable[[], float]) -> float:
        """Returns how many seconds of one core it will take about, measured by some steps of what it does.

        Args:
            clock: seconds of processor time, of all threads.
        """
        one = replace(OVERFITTED, steps=1)

        def spent(work: Callable[[], object]) -> float:
            began = clock()
            work()
            return clock() - began

        def plain(schedule: Schedule) -> float:
            return spent(lambda: membership_line(Part.TRAINING, "", self.rows, schedule, seed=0))

        def private(steps: int) -> float:
            schedule = PrivateSchedule(HIDDEN, steps, float(RATE), BOUND, 1.0, learning_rate=1.0)
            inside, classes = self.rows.members(0), self.rows.classes
            return spent(lambda: train_clipped(self.rows.features, self.rows.labels, inside, schedule, seed=0, classes=classes))

        plain(one)  # loads what is used for the first time
        once = plain(one)
        # The difference between many steps and one: what every run does once does not count for each step.
        each = max(0.0, plain(replace(OVERFITTED, steps=1 + _PROBE_STEPS)) - once) * OVERFITTED.steps / _PROBE_STEPS
        first = private(1)
        clipped = max(0.0, private(1 + _PROBE_STEPS) - first) * STEPS / _PROBE_STEPS
        parts = [part for part, _ in self.lines]
        costs = {
            Part.TRAINING: once + max(each, clipped),
            Part.ANSWERS: once,
            Part.STATISTICS: 0.0,
            Part.PREPARATION: once + each,
        }
        trained_once = each if Part.ANSWERS in parts else 0.0
        return trained_once + sum(costs[part] for part in parts)


def most_seconds(foreseen_s: float) -> float:
    """Returns after how many seconds of processor time nothing more is begun."""
    return max(_LEAST_S, _ROOM * foreseen_s)


def measured(ablation: Ablation, clock: Callable[[], float], *, most_s: float) -> Iterator[Line | str]:
    """Yields every line as it is measured; what is not begun within the time is named in words instead.

    Args:
        ablation: what is to be measured.
        clock: seconds of processor time, of all threads.
        most_s: after so many nothing more is begun.
    """
    began = clock()
    for number, (part, measure) in enumerate(ablation.lines, start=1):
        if clock() - began > most_s:
            yield f"{part.value}: line {number} of {len(ablation.lines)} and what follows were not measured: the time was up"
            return
        yield measure()


def ablation_of(
    rows: PreparedRows,
    schema: TableSchema,
    *,
    parts: Sequence[Part],
    groups_by: Sequence[str],
    quasi: Sequence[str],
    settings: Settings,
) -> Ablation:
    """Checks what was brought and returns what is to be measured; measures nothing.

    Args:
        rows: features in [-1, 1] and labels; secret.
        schema: of them.
        parts: to be measured.
        groups_by: features by which a table counts rows; empty for no such table.
        quasi: features by which somebody could be singled out; empty for no k-anonymity.
        settings: public.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): too few rows, or one class alone; INVALID_SCHEMA: the label is a number;
            INVALID_ARGUMENT: columns that are no features, an epsilon that no noise gives, or more of them than a report holds.
    """
    _require(rows, schema, [*groups_by, *quasi])
    if len(settings.epsilons) > MOST_EPSILONS:
        what = f"{len(settings.epsilons)} private trainings; at most {MOST_EPSILONS} are measured at a time"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name fewer epsilons; measure the others in another run.")
    order = np.random.default_rng(settings.seed).permutation(rows.num_rows)
    count = min(MOST_MEMBERS, rows.num_rows - int(rows.num_rows * _OTHERS))
    inside, others = order[:count], order[count : count + MOST_OTHERS]
    labels = rows.labels.astype(np.int64)
    whole = AblatedRows(rows.features[inside], labels[inside], rows.features[others], labels[others])
    _require_classes(whole)
    used = np.concatenate([inside, others])
    raw = _unscaled(rows.features, schema)
    lines: list[tuple[Part, Measure]] = []
    left_out: list[str] = []
    for part in dict.fromkeys(parts):
        match part:
            case Part.TRAINING:
                lines += [(part, each) for each in training_lines(whole, settings)]
            case Part.ANSWERS:
                lines += [(part, each) for each in answer_lines(whole, settings)]
            case Part.STATISTICS if groups_by:
                by = np.column_stack([_counted(raw, schema, name) for name in groups_by])
                _, found = np.unique(by, axis=0, return_inverse=True)
                lines += [(part, each) for each in statistics_lines(found.reshape(-1), labels == 1, seed=settings.seed)]
            case Part.PREPARATION if quasi:
                places = [schema.feature_names.index(name) for name in quasi]
                columns = quasi_columns([raw[used, place] for place in places], [_hierarchy(schema, name) for name in quasi])
                remake = _remaker(whole, schema, places, columns.codes, count)
                lines += [(part, each) for each in preparation_lines(columns, remake, seed=settings.seed)]
            case Part.STATISTICS:
                left_out.append(f"{part.value}: no column was named by which a table counts rows")
            case Part.PREPARATION:
                left_out.append(f"{part.value}: no columns were named that could single somebody out")
    if not lines:
        what = "; ".join(["nothing is left to measure", *left_out])
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name columns for it.")
    return Ablation(whole, settings, tuple(lines), tuple(left_out))


def _require(rows: PreparedRows, schema: TableSchema, named: Sequence[str]) -> None:
    if not schema.has_label or schema.num_classes is None or not schema.num_features:
        what = "an ablation is of a classification: it needs features, and a label of classes"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, remedy="Name the label column in the schema, with its classes.")
    unknown = [name for name in dict.fromkeys(named) if name not in schema.feature_names]
    if unknown:
        remedy = f"choose among {', '.join(schema.feature_names[:20])}"
        problems = [Problem(name, "is no feature of the schema", remedy) for name in unknown]
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{len(unknown)} column(s) are unknown", problems=problems)
    if rows.num_rows < LEAST_ROWS:
        what = f"{rows.num_rows} rows; with fewer than {LEAST_ROWS} an attack finds nothing but chance"
        raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Bring more rows.")


def _require_classes(rows: AblatedRows) -> None:
    if len(np.unique(rows.labels)) < 2 or len(np.unique(rows.other_labels)) < 2:
        what = "all rows have one label, or all but a few"
        raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Bring rows of two classes at least.")
    if rows.classes > LARGEST_CLASS_COUNT:
        what = f"{rows.classes} classes; at most {LARGEST_CLASS_COUNT} are measured"
        raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Choose a label of fewer classes.")


def _unscaled(features: NDArray[np.float64], schema: TableSchema) -> NDArray[np.float64]:
    """The values as they stood in the file, but for the last digits."""
    low, high = schema.feature_bounds
    return np.asarray(np.round(low + (features + 1) / 2 * (high - low), 9), np.float64)


def _counted(raw: NDArray[np.float64], schema: TableSchema, name: str) -> NDArray[np.float64]:
    """A column as a table counts by it: its values, or eighths of its declared range if it has many."""
    place = schema.feature_names.index(name)
    values, (low, high) = raw[:, place], (float(ends[place]) for ends in schema.feature_bounds)
    if len(np.unique(values)) <= _MOST_VALUES:
        return values
    return np.asarray(np.minimum(np.floor((values - low) / (high - low) * _EIGHTHS), _EIGHTHS - 1), np.float64)


def _hierarchy(schema: TableSchema, name: str) -> Hierarchy:
    place = schema.feature_names.index(name)
    low, high = (float(ends[place]) for ends in schema.feature_bounds)
    span = high - low
    return Hierarchy(name, tuple(Bands(_decimal(span / parts)) for parts in _BANDS), span)


def _decimal(width: float) -> str:
    text = f"{width:.9f}".rstrip("0").rstrip(".")
    return text if text not in ("", "0") else "0.000000001"


def _remaker(
    whole: AblatedRows, schema: TableSchema, places: Sequence[int], codes: NDArray[np.int64], count: int
) -> Callable[[Sequence[pa.Array], NDArray[np.bool_]], AblatedRows]:
    """Returns what makes rows for a network of generalised columns; those that are left out train none."""
    low, high = schema.feature_bounds
    together = np.concatenate([whole.features, whole.other_features])

    def remake(changed: Sequence[pa.Array], kept: NDArray[np.bool_]) -> AblatedRows:
        features = together.copy()
        for number, (place, made) in enumerate(zip(places, changed, strict=True)):
            values = made.cast(pa.float64()).to_numpy(zero_copy_only=False)[codes[:, number]]
            features[:, place] = np.clip(2 * (values - low[place]) / (high[place] - low[place]) - 1, -1, 1)
        stays = kept[:count]
        return AblatedRows(features[:count][stays], whole.labels[stays], features[count:], whole.other_labels)

    return remake
