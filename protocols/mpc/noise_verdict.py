"""What a computing party tells the others, and the owners, of the test of the noise.

SHA-256 of the spares that it saw (32 bytes) | a finding for every owner (1 byte each) | four figures for every owner (8 each)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.noise_test import Finding, OwnerFigures
from protocols.plan.noise import DIGEST_BYTES, FIGURES
from protocols.ring import RingArray

_WORST = max(Finding)


@dataclass(frozen=True)
class Verdict:
    """See the module; the numbers are read when somebody asks for the figures.

    Attributes:
        seen: the digest of the spares; public.
        findings: for every owner, in order; 0 is nothing.
        numbers: the figures for every owner, as they are sent.
        owners: ids.
    """

    seen: bytes
    findings: bytes
    numbers: bytes
    owners: tuple[str, ...]

    @property
    def figures(self) -> tuple[OwnerFigures, ...]:
        """Of every owner, in order."""
        rows = struct.iter_unpack(f"<{FIGURES}q", self.numbers)
        return tuple(OwnerFigures.of(*each) for each in zip(self.owners, rows, map(Finding, self.findings), strict=True))

    def to_bytes(self) -> bytes:
        """Returns the bytes that are sent."""
        return self.seen + self.findings + self.numbers


def verdict_of(spares: RingArray, figures: Sequence[OwnerFigures]) -> Verdict:
    """Returns the verdict of a party that saw these spares, (owners, steps, spares) int64, and found these figures."""
    seen = hashlib.sha256(np.ascontiguousarray(spares, "<i8").data).digest()
    numbers = [number for each in figures for number in each.numbers]
    findings = bytes([each.finding for each in figures])
    return Verdict(seen, findings, struct.pack(f"<{len(numbers)}q", *numbers), tuple(each.owner for each in figures))


def read_verdict(data: bytes, owners: Sequence[str], *, party: str) -> Verdict:
    """Reads what a party sent.

    Raises:
        ConfideError: BAD_FRAME (the fault of the party named): it is no verdict about these owners.
    """
    end = DIGEST_BYTES + len(owners)
    findings, numbers = data[DIGEST_BYTES:end], data[end:]
    if len(numbers) != 8 * FIGURES * len(owners) or max(findings, default=0) > _WORST:
        raise ConfideError(ErrorCode.BAD_FRAME, f"{party} sent no result of the test of the noise", party=party)
    return Verdict(data[:DIGEST_BYTES], findings, numbers, tuple(owners))


def check_verdicts(verdicts: Mapping[str, Verdict], *, party: str) -> None:
    """Ends the session if anybody found anything, or if parties saw different spares.

    Args:
        verdicts: of all computing parties, by id, in order.
        party: who checks: one of them, which has seen for itself, or an owner that has only what they say.

    Raises:
        ConfideError: NOISE_MISSING (the fault of the owner named, if this party has seen it or several say so); BAD_FRAME
            (nobody's provably) if parties saw different spares.
    """
    accusing = {name: verdict for name, verdict in verdicts.items() if any(verdict.findings)}
    if accusing:
        _check_accused(verdicts, party=party)
    if len({verdict.seen for verdict in verdicts.values()}) > 1:
        raise ConfideError(ErrorCode.BAD_FRAME, "the computing parties opened different spares of the noise")
    for name, verdict in accusing.items():
        owner = next(owner for owner, flag in zip(verdict.owners, verdict.findings, strict=True) if flag)
        # Neither seen here nor said by all that could see it, so it accuses nobody: who says it may be wrong.
        raise ConfideError(ErrorCode.NOISE_MISSING, f"{name} alone says that the noise of {owner} failed its test")


def _check_accused(verdicts: Mapping[str, Verdict], *, party: str) -> None:
    """Names the first owner that this party has found something of, or that all say so of that can see it."""
    own = verdicts.get(party)
    for index, owner in enumerate(next(iter(verdicts.values())).owners):
        judges = [name for name in verdicts if name != owner]
        accusers = [name for name, verdict in verdicts.items() if verdict.findings[index]]
        # An owner that does not compute has only what others say: one of them alone, whichever it is, proves nothing.
        if own is not None and party in accusers:
            raise _missing(own.figures[index])
        if len(accusers) > 1 and set(judges) <= set(accusers):
            raise _missing(verdicts[judges[0]].figures[index])


def finding_of(verdict: Verdict) -> ConfideError | None:
    """Returns what the party of a verdict found: NOISE_MISSING (the fault of the owner named), or None."""
    return next((_missing(each) for each in verdict.figures if each.finding is not Finding.NOTHING), None)


def _missing(figures: OwnerFigures) -> ConfideError:
    what = f"the noise of {figures.owner} failed its test: {figures.finding.in_words}"
    return ConfideError(ErrorCode.NOISE_MISSING, what, party=figures.owner)
