"""Targets that read what is said about how useful a model is."""

from __future__ import annotations

import numpy as np

from governance.utility_report import StatedUtility, read_stated_utility
from privacy.utility.report import read_utility_report, utility_report
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.job import Output, OutputKind
from tests.fuzz.target import Target
from tests.support.jobs import an_evaluation


def _seeds() -> list[bytes]:
    counted = (Output("correct", OutputKind.CORRECT_COUNT, "alice", 5),)
    groups = Output("groups", OutputKind.GROUP_CONFUSION, "alice", 5, group_by="radius", group_edges=("0.5",))
    table = np.array([[90, 10, 12, 40], [-1, 8, 9, 70]])
    one = an_evaluation(outputs=counted)
    both = an_evaluation(outputs=(*counted, groups))
    usual = utility_report(one, {"correct": np.array([200])}, groups=())
    grouped = utility_report(both, {"correct": np.array([150]), "groups": table}, groups=("below 5", "from 5"))
    return [usual.to_bytes(), grouped.to_bytes(), grouped.after_shift(usual).to_bytes()]


def _stated() -> list[bytes]:
    reports = (read_utility_report(seed) for seed in _seeds())
    return [canonical_bytes(StatedUtility("cardio", "alice", report).to_document()) for report in reports]


def _read_stated(data: bytes) -> bytes:
    return canonical_bytes(read_stated_utility(parse_canonical(data)).to_document())


TARGETS = (
    Target("utility-report", lambda data: read_utility_report(data).to_bytes(), _seeds),
    Target("stated-utility", _read_stated, _stated),
)
