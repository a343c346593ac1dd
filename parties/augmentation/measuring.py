"""Measures techniques over data sets and seeds, and says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from parties.augmentation.data_sets import MeasuredSet, digest_of
from parties.augmentation.records import code_digest, versions
from privacy.augmentation.evaluation import Application, Figures, LabelledSet, measure
from privacy.augmentation.record import Record, SetResult
from privacy.augmentation.technique import Technique, Use, as_numbers
from privacy.risk.shadows import Schedule

SCHEDULE = Schedule()
NUM_SHADOWS = 64
COPIES = 3


def application_of(technique: Technique) -> Application:
    """Returns a technique as it is measured."""
    copies = 1 if technique.use is Use.REPLACES else COPIES
    return Application(technique, as_numbers(technique.measured_with), copies)


def measure_techniques(
    techniques: Sequence[Technique],
    *,
    sets: Sequence[MeasuredSet],
    seeds: Sequence[int],
    today: str,
    say: Callable[[str], None],
) -> list[Record]:
    """Measures techniques, each on the data sets of its medium; on one core, so that figures do not depend on how many there are.

    Args:
        techniques: which.
        sets: on which data sets.
        seeds: one run each, with and without.
        today: ISO 8601.
        say: is told how far it is.

    Returns:
        A record for each technique, in order.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's fault): a package that carries a data set is not installed.
    """
    with _one_core():
        return _measured(techniques, sets, seeds, today, say)


@contextmanager
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measured(
    techniques: Sequence[Technique], sets: Sequence[MeasuredSet], seeds: Sequence[int], today: str, say: Callable[[str], None]
) -> list[Record]:
    results: dict[str, dict[str, SetResult]] = {technique.name: {} for technique in techniques}
    for entry in sets:
        meant = [technique for technique in techniques if technique.medium is entry.medium]
        if not meant:
            continue
        data = entry.load()
        say(f"{entry.name}: {len(data.labels)} rows, {len(seeds)} seeds, without any technique")
        without = _runs(data, None, seeds)
        for technique in meant:
            say(f"{entry.name}: {technique.name}")
            applied = _runs(data, application_of(technique), seeds)
            results[technique.name][entry.name] = SetResult(digest_of(data), len(data.labels), without, applied)
    return [_record(technique, results[technique.name], seeds, today) for technique in techniques]


def _runs(data: LabelledSet, application: Application | None, seeds: Sequence[int]) -> tuple[Figures, ...]:
    return tuple(measure(data, application, schedule=SCHEDULE, seed=seed, num_shadows=NUM_SHADOWS) for seed in seeds)


def _record(technique: Technique, results: Mapping[str, SetResult], seeds: Sequence[int], today: str) -> Record:
    return Record(
        technique=technique.name,
        settings=dict(technique.measured_with),
        copies=application_of(technique).copies,
        measured=today,
        command=f"confide augmentation evaluate {technique.name} --seeds {len(seeds)}",
        versions=versions(),
        code=code_digest(technique),
        schedule=SCHEDULE,
        num_shadows=NUM_SHADOWS,
        seeds=tuple(seeds),
        results=results,
    )
