"""Target of noise: what an owner takes from a computing party as the result of the test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.errors import ConfideError
from protocols.mpc.noise_test import Finding, OwnerFigures
from protocols.mpc.noise_verdict import Verdict, read_verdict, verdict_of
from tests.fuzz.target import Target

_OWNERS = ("hospital-a", "hospital-b")


def _verdicts() -> Sequence[bytes]:
    spares = np.arange(12, dtype=np.int64).reshape(len(_OWNERS), 2, 3)
    sound = [OwnerFigures(owner, 1_000_123, 400_000, 700_000, 30_000, Finding.NOTHING) for owner in _OWNERS]
    missing = [OwnerFigures(owner, 0, 0, 1_000_000, 1_000_000, Finding.VARIANCE) for owner in _OWNERS]
    return [verdict_of(spares, figures).to_bytes() for figures in (sound, missing)]


def _read(data: bytes) -> Verdict:
    verdict = read_verdict(data, _OWNERS, party="hospital-c")
    if verdict.to_bytes() != data:
        raise AssertionError("a verdict that was read has other bytes")
    return verdict


TARGETS = (Target("noise-verdict", _read, _verdicts, (ConfideError,)),)
