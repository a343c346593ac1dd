"""What a computing party tells the others, and the owners, of the test of the noise.

SHA-256 of the spares that it saw (32 bytes) | a finding for every owner (1 byte each) | four figures for every owner (8 each)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.noise_test import Finding, OwnerFigures
from protocols.plan.noise import DIGEST_BYTES, FIGURES
from protocols.ring import RingArray


@dataclass(frozen=True)
class Verdict:
    """See the module.

    Attributes:
        seen: the digest of the spares; public.
        figures: of every owner, in order.
    """

    seen: bytes
    figures: tuple[OwnerFigures, ...]

    def to_bytes(self) -> bytes:
        """Returns the bytes that are sent."""
        numbers = np.array([each.numbers for each in self.figures], "<i8")
        return self.seen + bytes(each.finding for each in self.figures) + numbers.tobytes()


def verdict_of(spares: Mapping[str, RingArray], figures: Sequence[OwnerFigures]) -> Verdict:
    """Returns the verdict of a party that saw these spares, by owner, and found these figures."""
    digest = hashlib.sha256()
    for values in spares.values():
        digest.update(np.ascontiguousarray(values, "<i8").data)
    return Verdict(digest.digest(), tuple(figures))


def read_verdict(data: bytes, owners: Sequence[str], *, party: str) -> Verdict:
    """Reads what a party sent.

    Raises:
        ConfideError: BAD_FRAME (the fault of the party named): it is no verdict about these owners.
    """
    findings, numbers = data[DIGEST_BYTES : DIGEST_BYTES + len(owners)], data[DIGEST_BYTES + len(owners) :]
    if len(numbers) != 8 * FIGURES * len(owners) or any(flag > max(Finding) for flag in findings):
        raise ConfideError(ErrorCode.BAD_FRAME, f"{party} sent no result of the test of the noise", party=party)
    rows = np.frombuffer(numbers, "<i8").reshape(len(owners), FIGURES).tolist()
    figures = (OwnerFigures.of(*each) for each in zip(owners, rows, map(Finding, findings), strict=True))
    return Verdict(data[:DIGEST_BYTES], tuple(figures))
