"""The record of what was measured of one technique: every run's figures, and everything that says whether they still hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from privacy.augmentation.evaluation import METRICS, Figures
from privacy.augmentation.verdict import LEAST_SEEDS, Effect, effects
from privacy.risk.shadows import Schedule
from protocols.errors import ConfideError, ErrorCode

_DIGITS = 6


@dataclass(frozen=True)
class SetResult:
    """The runs on one data set, in the order of the seeds.

    Attributes:
        digest: SHA-256 of the data set.
        num_rows: how many rows it has.
        without: figures without the technique.
        applied: figures with it.
    """

    digest: str
    num_rows: int
    without: tuple[Figures, ...]
    applied: tuple[Figures, ...]


@dataclass(frozen=True)
class Record:
    """What was measured of one technique; public.

    Attributes:
        technique: its name.
        settings: its parameters, decimals.
        copies: how many were made of each row.
        measured: the day, ISO 8601, UTC.
        command: what measures it again.
        versions: of Python and the packages that figures depend on.
        code: digest of the code that made the figures.
        schedule: how the models were trained.
        num_shadows: how many models a run had.
        seeds: of the runs.
        results: by data set.
    """

    technique: str
    settings: Mapping[str, str]
    copies: int
    measured: str
    command: str
    versions: Mapping[str, str]
    code: str
    schedule: Schedule
    num_shadows: int
    seeds: tuple[int, ...]
    results: Mapping[str, SetResult]

    def effects(self) -> dict[tuple[str, str], Effect]:
        """Returns the effect on every figure, by data set and name."""
        return effects({name: (result.without, result.applied) for name, result in self.results.items()})

    def to_document(self) -> dict[str, Any]:
        """Returns the record as JSON has it, figures with six digits after the point."""
        results = {
            name: {
                "digest": result.digest,
                "num_rows": result.num_rows,
                "without": _columns(result.without),
                "with": _columns(result.applied),
            }
            for name, result in self.results.items()
        }
        head = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("schedule", "results")}
        return {
            **head,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "seeds": list(self.seeds),
            "schedule": asdict(self.schedule),
            "results": results,
        }

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> Record:
        """Reads a record.

        Raises:
            ConfideError: INVALID_DOCUMENT (its author's fault): it is not what `to_document` writes.
        """
        try:
            results = {
                name: SetResult(entry["digest"], entry["num_rows"], _figures(entry["without"]), _figures(entry["with"]))
                for name, entry in document["results"].items()
            }
            head = {field.name: document[field.name] for field in fields(Record)}
            read = Record(
                **head | {"schedule": Schedule(**document["schedule"]), "seeds": tuple(document["seeds"]), "results": results}
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _unreadable("its fields are not those of a record") from None
        runs = {len(side) for result in results.values() for side in (result.without, result.applied)}
        if runs != {len(read.seeds)} or len(read.seeds) < LEAST_SEEDS:
            raise _unreadable("it does not have one run a seed")
        if read.to_document() != document:
            raise _unreadable("it was not written by this program")
        return read


def _columns(runs: tuple[Figures, ...]) -> dict[str, list[float] | None]:
    columns: dict[str, list[float] | None] = {}
    for metric in METRICS:
        values = [getattr(figures, metric) for figures in runs]
        columns[metric] = None if None in values else [round(value, _DIGITS) for value in values]
    return columns


def _figures(columns: Mapping[str, list[float] | None]) -> tuple[Figures, ...]:
    count = len(columns["accuracy"] or ())
    lists: dict[str, Sequence[Any]] = {metric: columns[metric] or [None] * count for metric in METRICS}
    if any(len(values) != count for values in lists.values()):
        raise ValueError
    return tuple(Figures(**{metric: values[run] for metric, values in lists.items()}) for run in range(count))


def _unreadable(what: str) -> ConfideError:
    remedy = "Measure again: `confide augmentation evaluate`."
    return ConfideError(ErrorCode.INVALID_DOCUMENT, f"a record of a technique cannot be read: {what}", remedy=remedy)
