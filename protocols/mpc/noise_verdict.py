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


def check_verdicts(verdicts: Mapping[str, Verdict], *, party: str) -> None:
    """Ends the session if anybody found anything, or if parties saw different spares.

    Args:
        verdicts: of all computing parties, by id, in order.
        party: who checks: one of them, which has seen for itself, or an owner that has only what they say.

    Raises:
        ConfideError: NOISE_MISSING (the fault of the owner named, if this party has seen it or several say so); BAD_FRAME
            (nobody's provably) if parties saw different spares.
    """
    own = verdicts.get(party)
    for index, each in enumerate(next(iter(verdicts.values())).figures):
        judges = [name for name in verdicts if name != each.owner]
        accusers = [name for name, verdict in verdicts.items() if verdict.figures[index].finding is not Finding.NOTHING]
        # An owner that does not compute has only what others say: one of them alone, whichever it is, proves nothing.
        if own is not None and party in accusers:
            raise _missing(own.figures[index])
        if len(accusers) > 1 and set(judges) <= set(accusers):
            raise _missing(verdicts[judges[0]].figures[index])
    if len({verdict.seen for verdict in verdicts.values()}) > 1:
        raise ConfideError(ErrorCode.BAD_FRAME, "the computing parties opened different spares of the noise")
    for name, verdict in verdicts.items():
        for each in verdict.figures:
            if each.finding is not Finding.NOTHING:
                # Neither seen here nor said by all that could see it, so it accuses nobody: who says it may be wrong.
                raise ConfideError(ErrorCode.NOISE_MISSING, f"{name} alone says that the noise of {each.owner} failed its test")


def finding_of(verdict: Verdict) -> ConfideError | None:
    """Returns what the party of a verdict found: NOISE_MISSING (the fault of the owner named), or None."""
    return next((_missing(each) for each in verdict.figures if each.finding is not Finding.NOTHING), None)


def _missing(figures: OwnerFigures) -> ConfideError:
    what = f"the noise of {figures.owner} failed its test: {figures.finding.in_words}"
    return ConfideError(ErrorCode.NOISE_MISSING, what, party=figures.owner)
